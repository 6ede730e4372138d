"""What is installed, and which commit is checked out: results depend on it, so every study records it."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata

PACKAGES = ("hpo", "torch", "numpy", "scipy", "scikit-learn", "optuna", "cmaes", "scikit-optimize", "SQLAlchemy")


def installed() -> dict[str, str]:
    """Versions by package name, Python's among them; `git`: the commit of the folder hpo is run in, if it is one."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    commit = _commit()
    return {"python": platform.python_version(), **packages, **({"git": commit} if commit else {})}


def _commit() -> str | None:
    """The checked-out commit, with a + where files differ from it; None without git or a repository."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None
