"""Methods that begin when the training is over, from states that were kept on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from hpo.hypergradients.kept import Kept, States
from hpo.hypergradients.training import Charge, Derivative, Following, Training, begun, onwards
from solvers.vectors import Tensors


class Afterwards(ABC):
    """A `Hypergradient` in two parts: which states it wants, and the derivative from them.

    `stacks`: its derivative of a stack of trainings (`solvers.stacked`) is the stack of their derivatives.
    """

    stacks: bool = False

    @abstractmethod
    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """As `Hypergradient` has it."""

    @abstractmethod
    def stays(self, training: Training, weights: Tensors, hyper: Tensors) -> Collection[int]:
        """The steps whose states are kept, besides the first and the last one."""

    @abstractmethod
    def derivative(self, training: Training, weights: Tensors, hyper: Tensors, states: States) -> Derivative:
        """The derivative of a training of which these states are there; they may be taken out once they are used."""

    def follow(
        self,
        training: Training,
        weights: Tensors,
        hyper: Tensors,
        stops: Collection[int] = (),
        kept: Kept | None = None,
    ) -> Following:
        """The training; then the derivative."""
        states = begun(training, weights, hyper, kept)
        yield from onwards(training, hyper, states, stops, self.stays(training, weights, hyper))
        return self.derivative(training, weights, hyper, states)
