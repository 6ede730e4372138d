"""The algebra of named tensors: every function takes and returns `dict[str, Tensor]` with the same names.

States are NamedTuples of tensors and such dictionaries; `leaves` and `rebuild` turn one into a flat list and back,
which is all that automatic differentiation needs to know about them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
S = TypeVar("S", bound=Iterable[Any])


def zeros(like: Tensors) -> dict[str, Tensor]:
    """0, with the shapes of `like`."""
    return {name: torch.zeros_like(x) for name, x in like.items()}


def subtract(a: Tensors, b: Tensors) -> dict[str, Tensor]:
    """a − b."""
    return {name: x - b[name] for name, x in a.items()}


def finite(values: Tensors) -> bool:
    """Whether every entry is finite."""
    return all(bool(torch.isfinite(x).all()) for x in values.values())


def flatten(values: Tensors) -> Tensor:
    """All entries as one vector `[N]`, in the order of the names."""
    return torch.cat([x.reshape(-1) for x in values.values()])


def unflatten(vector: Tensor, like: Tensors) -> dict[str, Tensor]:
    """The inverse of `flatten`, for the names and shapes of `like`."""
    parts = torch.split(vector, [math.prod(x.shape) for x in like.values()])
    return {name: part.reshape(x.shape) for part, (name, x) in zip(parts, like.items(), strict=True)}


def leaves(state: Iterable[Any]) -> list[Tensor]:
    """The tensors of a state, field by field."""
    found: list[Tensor] = []
    for field in state:
        found.extend(field.values() if isinstance(field, Mapping) else [field])
    return found


def rebuild(state: S, tensors: Sequence[Tensor]) -> S:
    """A state with the structure of `state` and the given tensors in the order of `leaves`."""
    rest = iter(tensors)
    fields = [{name: next(rest) for name in field} if isinstance(field, Mapping) else next(rest) for field in state]
    return cast(S, cast(Any, state)._make(fields))


def between(a: S, b: S, share: float) -> S:
    """(1 − share)·a + share·b, leaf by leaf."""
    return rebuild(a, [torch.lerp(x, y, share) for x, y in zip(leaves(a), leaves(b), strict=True)])


def transformed(*tensors: Tensor) -> bool:
    """Whether a torch.func transform (vmap, grad …) is at work on these tensors.

    The one place that asks torch for something it does not document: `torch.autograd.grad` is twice as fast as
    `torch.func.grad` on small networks, but cannot run inside a transform.
    """
    return any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in tensors)  # pyright: ignore
