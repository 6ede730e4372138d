"""Several recipes whose trainings have one shape, as one training with a replica axis in front.

What may be stacked is told by `kind`: the same solver and options, steps, rows in a batch, tensors and their shapes.
Replicas of one seed share their minibatches, those of several seeds each gather their own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpo.hypergradients.training import Training
from hpo.recipe import Recipe
from hpo.spec import Arm, Study
from solvers.solver import Batch, Batches, Solver
from solvers.stacked import Stacked
from solvers.vectors import Tensors


class Replica(NamedTuple):
    """One of the trainings: its recipe, and the hyperparameters it trains with."""

    made: Recipe
    hyper: Mapping[str, Tensor]


class Stack(NamedTuple):
    """R trainings as one: `weights` and `hyper` are `[R, …]`, the training's losses are sums over the replicas."""

    training: Training
    weights: Tensors
    hyper: Tensors


def kind(study: Study, arm: Arm, one: Replica) -> Hashable:
    """Equal for two trainings that can be stacked.

    A module may hold what its seed drew, and a solver that takes or reads out all rows holds them: these are parted
    by seed.
    """
    problem, training = one.made.problem, one.made.training
    solver = training.solver
    own = isinstance(study.problem.model, str) or solver.whole or solver.readout_rows or problem.network.constants
    batch = training.batches(0)
    tensors = {**problem.weights, **one.hyper, "inputs": batch.inputs, "targets": batch.targets}
    shapes = tuple((name, tuple(x.shape), x.dtype) for name, x in tensors.items())
    rows = len(problem.train.targets), len(problem.validation.targets)
    named = repr((study.problem, study.training, arm.solver))
    return (named, training.steps, rows, shapes, arm.seed if own else None)


def stacked(kinship: Hashable, replicas: Sequence[Replica], derived: bool = False) -> Stack:
    """The trainings of one kind as one. Only if it is to be `derived` its validation parts are those of all seeds,
    at the cost of a copy for each replica.
    """
    problems, trainings = [r.made.problem for r in replicas], [r.made.training for r in replicas]
    first = trainings[0]
    shared = all(t.train.inputs is first.train.inputs for t in trainings)
    solver = _solver((kinship, first.steps), len(replicas), shared, _Held(first.solver))
    forward = torch.vmap(first.forward, in_dims=(0, None if shared else 0))
    losses = torch.vmap(first.criterion, in_dims=(0, None if shared else 0))
    training = first._replace(
        solver=solver,
        forward=lambda weights, inputs: forward(dict(weights), inputs),
        criterion=lambda outputs, targets: losses(outputs, targets).sum(),
        batches=first.batches if shared else _gathered([t.batches for t in trainings]),
        validation=first.validation if shared or not derived else _side_by_side([t.validation for t in trainings]),
    )
    weights = {name: torch.stack([p.weights[name] for p in problems]) for name in problems[0].weights}
    hyper = {name: torch.stack([r.hyper[name] for r in replicas]) for name in replicas[0].hyper}
    return Stack(training, weights, hyper)


class _Held:
    """A solver that does not count where things are looked up: those of one kind take the same steps."""

    def __init__(self, solver: Solver[Any]) -> None:
        self.solver = solver

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=16)
def _solver(kinship: Hashable, replicas: int, shared: bool, held: _Held) -> Stacked:
    """Made once for each kind and number: tracing takes as long as hundreds of steps."""
    del kinship
    return Stacked(held.solver, replicas, shared=shared)


def _gathered(sources: Sequence[Batches]) -> Batches:
    """The minibatches of all replicas side by side, `[R, B, …]`; those of one seed are gathered once."""
    different = list(dict.fromkeys(sources))
    whose = torch.tensor([different.index(source) for source in sources])

    def batches(index: int) -> Batch:
        parts = [source(index) for source in different]
        together = _side_by_side(parts)
        if len(parts) == len(sources):
            return together
        at = whose.to(together.targets.device)
        return Batch(index, together.inputs.index_select(0, at), together.targets.index_select(0, at))

    return batches


def _side_by_side(parts: Sequence[Batch]) -> Batch:
    return Batch(parts[0].index, torch.stack([p.inputs for p in parts]), torch.stack([p.targets for p in parts]))
