"""Minibatch t as a pure function of (seed, t): the same whenever it is asked, forwards and backwards."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from solvers.solver import Batch


class Minibatches:
    """Step number → its minibatch of `size` rows.

    Every epoch of max(1, N // size) steps is one permutation of the N rows, drawn from (seed, epoch); the N mod size
    rows that are left over sit that epoch out. With `size` ≥ N every minibatch is the full batch, in order.
    A step gathers its own rows: copying a whole epoch at once was measured slower, the rows leave the cache.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, size: int, seed: int) -> None:
        self.inputs, self.targets = inputs, targets
        self.size, self.seed = size, seed
        self.steps_per_epoch = max(1, len(inputs) // size)
        self._permuted = lru_cache(maxsize=4)(self._draw)  # neighbouring epochs, whichever way the run goes

    def __call__(self, index: int) -> Batch:
        if self.size >= len(self.inputs):
            return Batch(index, self.inputs, self.targets)
        epoch, step = divmod(index, self.steps_per_epoch)
        rows = self._permuted(epoch)[step]
        return Batch(index, self.inputs.index_select(0, rows), self.targets.index_select(0, rows))

    def _draw(self, epoch: int) -> tuple[Tensor, ...]:
        """The rows of each step of an epoch, `[size]` each."""
        order = np.random.default_rng((*b"epoch", self.seed, epoch)).permutation(len(self.inputs))
        return torch.from_numpy(order).to(self.inputs.device).split(self.size)
