"""The short form of `matrix.py`: a fault at every named point, over signals, executors and databases in turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_case import Case, Essence, strike, unbroken

SHORT = [
    (Case("beginning", "SIGKILL", 1, "serial"), "sqlite"),
    (Case("attending", "SIGKILL", 1, "processes"), "postgresql"),
    (Case("claimed", "SIGKILL", 9, "processes"), "sqlite"),
    (Case("mid-training", "SIGTERM", 80, "processes"), "postgresql"),
    (Case("mid-training", "SIGKILL", 30, "processes", worker=True), "sqlite"),
    (Case("checkpoint-half-written", "SIGKILL", 6, "serial"), "postgresql"),
    (Case("checkpoint-written", "SIGKILL", 84, "serial"), "sqlite"),
    (Case("outcome-computed", "SIGINT", 12, "serial"), "postgresql"),
    (Case("closing", "SIGKILL", 8, "processes"), "postgresql"),
    (Case("closed-not-told", "SIGKILL", 14, "serial"), "sqlite"),
    (Case("resuming", "SIGKILL", 1, "serial"), "sqlite"),
]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Essence:
    return unbroken(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize(("case", "url"), SHORT, indirect=["url"], ids=lambda one: str(one).replace(" ", "-"))
def test_no_trial_is_lost_done_twice_or_changed(case: Case, url: str, tmp_path: Path, expected: Essence) -> None:
    verdict = strike(case, url, tmp_path, expected)
    assert verdict.injected
    assert verdict == verdict._replace(lost=0, twice=0, differing=0, faults=[])
