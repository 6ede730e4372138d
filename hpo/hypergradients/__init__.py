"""Derivatives of a validation loss with respect to the hyperparameters of the training that led to it.

Usable without the rest of hpo: torch and `solvers` only.

    from hpo.hypergradients import Training, hypergradient
    result = hypergradient("drmad", training, weights, {"l2": torch.tensor(1e-3), "learning_rate": torch.tensor(0.1)})
    result.value, result.gradient["l2"], result.gradient_evaluations

`HYPERGRADIENTS` names the methods; torch is loaded with the first name that needs it, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo.hypergradients.training import Result, Training, hypergradient, method

HYPERGRADIENTS = {
    "exact": "hpo.hypergradients.exact:Exact",
    "reversible": "hpo.hypergradients.reversible:Reversible",
    "drmad": "hpo.hypergradients.drmad:DrMAD",
    "truncated": "hpo.hypergradients.truncated:Truncated",
    "forward": "hpo.hypergradients.forward:Forward",
    "implicit": "hpo.hypergradients.implicit:Implicit",
    "online": "hpo.hypergradients.online:Online",
}

__all__ = ["HYPERGRADIENTS", "Result", "Training", "hypergradient", "method"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("hpo.hypergradients.training"), name)
