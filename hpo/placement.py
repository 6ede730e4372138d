"""Named vectors of the search space ↔ the solver's hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hpo.space import Space
from hpo.trial import Array, Values
from solvers.vectors import Tensors


def place(space: Space, values: Values, fixed: Mapping[str, float], like: Tensor) -> dict[str, Tensor]:
    """Named vectors `[K]` and fixed numbers → the solver's hyperparameters, with the type and device of `like`."""
    hyper = {name: torch.as_tensor(value).to(like) for name, value in fixed.items()}
    for group in space.groups:
        vector = torch.as_tensor(values[group.name]).to(like)
        for piece in group.pieces:
            hyper[piece.key] = vector[piece.start : piece.stop].reshape(piece.shape)
    return hyper


def gather(space: Space, gradient: Tensors) -> dict[str, Array]:
    """The transpose of `place`: derivatives of the solver's hyperparameters → one vector `[K]` per name, summed."""
    vectors = {}
    for group in space.groups:
        vector = np.zeros(group.size)
        for piece in group.pieces:
            vector[piece.start : piece.stop] += gradient[piece.key].detach().cpu().double().reshape(-1).numpy()
        vectors[group.name] = vector
    return vectors
