"""A hypergradient with the exact one of the same training beside it, to see how far the two agree."""

from __future__ import annotations

from collections.abc import Collection

from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.exact import Exact
from hpo.hypergradients.kept import States
from hpo.hypergradients.training import Charge, Derivative, Training
from solvers.vectors import Tensors

EXPLODED = "exact exploded"


class Agreement(Afterwards):
    """The derivative of `method`, with the same digits, and the exact one beside it.

    The report says `exact exploded` where the exact pass stopped being finite. Cost and memory: those of both; `exact`
    keeps all states.
    """

    def __init__(self, method: Afterwards) -> None:
        self.method, self.exact = method, Exact()

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """Raises ValueError for what one of the two does not serve."""
        one, other = (way.charge(training, weights, hyper) for way in (self.method, self.exact))
        return Charge(one.gradient_evaluations + other.gradient_evaluations, one.memory + other.memory)

    def stays(self, training: Training, weights: Tensors, hyper: Tensors) -> Collection[int]:
        """What either wants."""
        return {step for way in (self.method, self.exact) for step in way.stays(training, weights, hyper)}

    def derivative(self, training: Training, weights: Tensors, hyper: Tensors, states: States) -> Derivative:
        """The method has the states that it would have alone: from others it might choose other knots."""
        path = States(states[0], training.steps, None)
        path.update(states)
        states.only(*self.method.stays(training, weights, hyper), training.steps)
        found = self.method.derivative(training, weights, hyper, states)
        exact = self.exact.derivative(training, weights, hyper, path)
        exploded = {EXPLODED: exact.report["exploded"]} if "exploded" in exact.report else {}
        return found._replace(report={**found.report, **exploded}, exact=exact.gradient)
