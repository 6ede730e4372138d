"""Derivatives of a validation loss with respect to the hyperparameters of the training that led to it.

Usable without the rest of hpo: torch and `solvers` only. `HYPERGRADIENTS` names the methods without importing torch.
"""

from __future__ import annotations

HYPERGRADIENTS = {
    "exact": "hpo.hypergradients.exact:Exact",
    "truncated": "hpo.hypergradients.truncated:Truncated",
    "drmad": "hpo.hypergradients.drmad:DrMAD",
}
