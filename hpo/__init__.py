"""hpo: hyperparameter optimization of PyTorch trainings, thousands of hyperparameters at a time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo.api import compare, load, run
    from hpo.results import Comparison, Result
    from hpo.study import Watcher

__version__ = "0.1.0"
__all__ = ["Comparison", "Result", "Watcher", "compare", "load", "run"]

_HOMES = {
    "run": "hpo.api",
    "load": "hpo.api",
    "compare": "hpo.api",
    "Comparison": "hpo.results",
    "Result": "hpo.results",
    "Watcher": "hpo.study",
}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: `import hpo` alone stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hpo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
