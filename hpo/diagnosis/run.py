"""An arm's training at the default values of its space."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hpo import evaluation
from hpo.hypergradients.training import Training, walk
from hpo.placement import place
from hpo.problems.problem import Problem
from hpo.recipe import recipe
from hpo.spec import Arm, Study
from solvers.solver import State
from solvers.vectors import Tensors


class Run(NamedTuple):
    """A problem, its training, and the hyperparameters as the solver takes them."""

    problem: Problem
    training: Training
    hyper: dict[str, Tensor]

    def walk(self, stops: Collection[int]) -> Iterator[tuple[int, State]]:
        """(step, the state before it) at 0, at the stops and at the end."""
        return walk(self.training, self.problem.weights, self.hyper, stops)

    def read(self, state: State) -> Tensors:
        """The weights with which the network predicts."""
        return self.training.solver.readout(state.weights)


def default(study: Study, arm: Arm, data_dir: Path | None) -> Run:
    """Raises what `hpo.evaluation.plan` raises."""
    made, space = recipe(study, arm, data_dir), evaluation.plan(study, arm, data_dir).space
    some_weight = next(iter(made.problem.weights.values()))
    return Run(made.problem, made.training, place(space, space.defaults(), made.fixed, some_weight))
