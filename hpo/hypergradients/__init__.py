"""Derivatives of a validation loss with respect to the hyperparameters of the training that led to it.

Usable without the rest of hpo: torch and `solvers` only. `HYPERGRADIENTS` names the methods without importing torch.
"""

from __future__ import annotations

HYPERGRADIENTS = {
    "exact": "hpo.hypergradients.exact:Exact",
    "truncated": "hpo.hypergradients.truncated:Truncated",
    "reversible": "hpo.hypergradients.reversible:Reversible",
    "implicit": "hpo.hypergradients.implicit:Implicit",
    "online": "hpo.hypergradients.online:Online",
    "forward": "hpo.hypergradients.forward:Forward",
    "drmad": "hpo.hypergradients.drmad:DrMAD",
}
