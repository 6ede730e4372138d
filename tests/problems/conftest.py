from __future__ import annotations

import itertools
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

numbers = itertools.count()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; what is imported from it leaves no trace in sys.path."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own(here: Path) -> Callable[[str], str]:
    """Writes a module of the user's into the current folder and returns its name, a new one each time."""

    def write(text: str) -> str:
        name = f"own_{next(numbers)}"
        (here / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return write


@pytest.fixture
def real() -> Path:
    """The folder of real data sets."""
    folder = os.environ.get("HPO_DATA")
    if not folder:
        pytest.skip("HPO_DATA is not set: the real data sets are not tried")
    return Path(folder)
