"""What is installed: results depend on it, so every study records it."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("hpo", "torch", "numpy", "scipy", "scikit-learn", "optuna", "cmaes", "scikit-optimize", "SQLAlchemy")


def installed() -> dict[str, str]:
    """Versions by package name, Python's among them."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
