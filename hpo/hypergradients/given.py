"""What a user hands to `hypergradient`, looked at before anything is trained: a wrong name must not train in silence.

A study's names are checked where the study is read; here they are keys of a dictionary, which may be anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, ValuesView
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from solvers.ranges import Range
from solvers.solver import Batches, Solver
from solvers.vectors import Tensors, leaves

ROUNDING = 1e-3
"""Two results are one, if they differ by no more: a device may add in another order each time."""


def floating(weights: Tensors, hyper: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """Numbers and tensors of them as floating-point tensors, on the device of the weights."""
    some = next(iter(weights.values()))
    floats = {key for key, x in hyper.items() if isinstance(x, Tensor) and x.is_floating_point()}
    return {
        key: torch.as_tensor(x, dtype=None if key in floats else some.dtype, device=some.device)
        for key, x in hyper.items()
    }


def check(solver: Solver[Any], weights: Tensors, hyper: Tensors, batches: Batches, steps: int) -> None:
    """Raise ValueError for a key that neither the solver nor the loss reads, a value that does not fit its weight, a
    last step that cannot be taken, or is not the same twice. Cost: two gradient evaluations.
    """
    declared = {key for key in hyper if _parts(key)[0] in solver.hyperparameters}
    for key in declared:
        _check(key, hyper[key], weights, solver.hyperparameters[_parts(key)[0]])
    watched, first, last = Watched(hyper), batches(0), batches(steps - 1)
    try:
        with torch.no_grad():
            ends = [solver.step(solver.init(weights, given, first), given, last) for given in (watched, hyper)]
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join(f"{key} {[*x.shape]}" for key, x in hyper.items())
        raise ValueError(f"step {steps - 1} cannot be taken with {shapes}: {error}") from error
    unread = sorted(set(hyper) - declared - watched.read)
    if unread:
        raise ValueError(
            f"{unread[0]!r} is read neither by {type(solver).__name__} nor by the loss{_hint(unread[0], solver)}"
        )
    pairs = zip(*(leaves(end) for end in ends), strict=True)
    if any(bool((x - y).norm() > ROUNDING * x.norm()) for x, y in pairs):
        raise ValueError(
            "a step on one minibatch gave two results: the loss must follow from weights, hyperparameters and batch "
            "alone, so that it can be replayed; leave out dropout, or make its mask a function of batch.index"
        )


class Watched(Mapping[str, Tensor]):
    """A dictionary that notes which of its keys were asked for; looking at all values asks for none."""

    def __init__(self, inside: Tensors) -> None:
        self.inside, self.read = inside, set[str]()

    def __getitem__(self, key: str) -> Tensor:
        value = self.inside[key]
        self.read.add(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.inside)

    def __len__(self) -> int:
        return len(self.inside)

    def values(self) -> ValuesView[Tensor]:
        """Without a note."""
        return self.inside.values()


def _check(key: str, value: Tensor, weights: Tensors, declared: Range) -> None:
    name, weight, scheduled = _parts(key)
    if scheduled and "step" not in declared.grains:
        raise ValueError(f"{name} has one value for the whole training: give no schedule")
    if weight and declared.target == "solver":
        raise ValueError(f"{name} has one value for all weights: leave out '.{weight}'")
    if weight and weight not in weights:
        raise ValueError(f"{key!r} names no weight: there are {', '.join(weights)}")
    shape = value.shape[1:] if scheduled else value.shape
    if weight and not _fits(shape, weights[weight].shape):
        into = [*weights[weight].shape]
        raise ValueError(f"{key} of shape {[*value.shape]} does not broadcast against {weight} of shape {into}")


def _parts(key: str) -> tuple[str, str, bool]:
    """ "learning_rate.layers.0.weight[t]" → (learning_rate, layers.0.weight, True)."""
    plain = key.removesuffix("[t]")
    name, _, weight = plain.partition(".")
    return name, weight, plain != key


def _fits(shape: torch.Size, into: torch.Size) -> bool:
    ends = zip(reversed(shape), reversed(into), strict=False)
    return len(shape) <= len(into) and all(a in (1, b) for a, b in ends)


def _hint(key: str, solver: Solver[Any]) -> str:
    known = sorted(solver.hyperparameters)
    near = get_close_matches(_parts(key)[0], known, n=1)
    return f": did you mean {near[0]!r}?" if near else f", which knows {', '.join(known)}"
