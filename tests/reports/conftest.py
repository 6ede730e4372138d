"""A ledger with a small study in it: three methods, two seeds, everything that can happen to a trial."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from recording import left_running, record

from hpo.space import Group, Space
from hpo.spec import Study
from hpo.storage.ledger import Ledger

STUDY = {
    "name": "digits",
    "problem": {"data": "digits"},
    "training": {"steps": 600, "batch_size": 100},
    "space": {"l2": {"per": "neuron", "low": 1e-6, "high": 1.0}, "learning_rate": {}},
    "methods": ["drmad", {"name": "tpe", "per": "global"}, "random"],
    "budget": {"trainings": 30},
    "seeds": 2,
}


@pytest.fixture
def study() -> Study:
    return Study.model_validate(STUDY)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path / 'hpo.db'}") as ledger:
        yield ledger


@pytest.fixture
def ledger(empty: Ledger, study: Study) -> Ledger:
    empty.begin(study, {"python": "3.11"})
    space = Space(
        (
            Group("l2", "neuron", 1e-6, 1.0, 1e-3, True, 3, ()),
            Group("learning_rate", "global", 1e-3, 1.0, 0.05, True, 1, ()),
        )
    )
    empty.describe("digits", "drmad/0", space, {"rate": 0.3})
    #        arm            (validation, test) of each trial, in order
    for arm, losses in {
        "drmad/0": [(0.5, 0.6), (0.2, 0.3), (0.3, 0.1)],
        "drmad/1": [(0.4, 0.5)],
        "tpe-global/0": [(0.4, 0.4), (math.nan, math.nan)],
        "tpe-global/1": [(0.4, math.inf)],
        "random/0": [(math.inf, 0.1)],
    }.items():
        for number, (validation, test) in enumerate(losses):
            record(empty, arm, number, validation, test)
    left_running(empty, "drmad/0", 3)
    empty.finish("digits", "drmad/0", "complete")
    empty.finish("digits", "random/0", "failed")
    return empty
