"""How far a hypergradient agrees with the exact one of the same training.

    cosine of h = Σ gₕ·eₕ / (‖gₕ‖ ‖eₕ‖)      g the hypergradient, e the exact one, over all values of hyperparameter h

1 is the same direction, 0 tells nothing, below 0 a step along g goes uphill.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.exact import Exact
from hpo.hypergradients.kept import States
from hpo.hypergradients.training import Charge, Derivative, Training, families, family
from solvers.vectors import Tensors

COSINE = "cosine of"


class Agreement(Afterwards):
    """The hypergradient of `method`, with its cosine to the exact one for every hyperparameter in the report.

    Cost: that of both; memory, too, as the exact one keeps all states.
    """

    def __init__(self, method: Afterwards) -> None:
        self.method, self.exact = method, Exact()

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """Raises ValueError for what one of the two does not serve."""
        one, other = (way.charge(training, weights, hyper) for way in (self.method, self.exact))
        return Charge(one.gradient_evaluations + other.gradient_evaluations, one.memory + other.memory)

    def stays(self, training: Training, weights: Tensors, hyper: Tensors) -> Collection[int]:
        """What either wants."""
        wanted = (set(way.stays(training, weights, hyper)) for way in (self.method, self.exact))
        return set.union(*wanted)

    def derivative(self, training: Training, weights: Tensors, hyper: Tensors, states: States) -> Derivative:
        """The method's; a cosine is left out where one of the two is zero or not finite."""
        path = States(states[0], training.steps, None)
        path.update(states)
        states.only(*self.method.stays(training, weights, hyper), training.steps)
        found = self.method.derivative(training, weights, hyper, states)
        exact = self.exact.derivative(training, weights, hyper, path)
        told = cosines(training.sought(found.gradient), training.sought(exact.gradient))
        return found._replace(report={**found.report, **{f"{COSINE} {name}": cosine for name, cosine in told.items()}})


def cosines(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, float]:
    """By hyperparameter, of those where it is a number."""
    found = {}
    for name in families(one):
        keys = [key for key in one if family(key) == name]
        a, b = (torch.cat([some[key].double().flatten() for key in keys]) for some in (one, other))
        cosine = (a @ b / (a.norm() * b.norm())).item()
        if cosine == cosine:
            found[name] = max(-1.0, min(1.0, cosine))
    return found
