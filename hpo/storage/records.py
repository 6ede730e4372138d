"""What the ledger tells about studies, arms and trials without loading an array."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from hpo.space import Space
from hpo.spec import Study
from hpo.storage.tables import ArmState
from hpo.trial import Cost, TrialState


def described(space: Space) -> list[dict[str, Any]]:
    """The groups of a resolved space as JSON, without the list of where each value goes."""
    fields = ("name", "per", "low", "high", "default", "log", "size")
    return [{field: getattr(group, field) for field in fields} for group in space.groups]


class StudyRecord(NamedTuple):
    """A stored study. `versions` are those of the last `begin`; `runs`: how many hold a lease of it, dead ones too;
    `running`: whether one is alive, as far as can be seen from here; `data_dir`: where the last run looked for data;
    `parent`: what it branched from.
    """

    spec: Study
    versions: dict[str, Any]
    created: datetime
    updated: datetime
    running: bool
    runs: int
    data_dir: Path | None
    parent: str | None


class StudySummary(NamedTuple):
    """One line of a list: how many arms in which state, closed trials, the lowest finite validation loss."""

    name: str
    created: datetime
    updated: datetime
    running: bool
    arms: dict[str, int]
    trials: int
    best_validation_loss: float | None


class Standing(NamedTuple):
    """Where an arm stands: the next number, how many trials run, what the closed ones cost (time to ask included)."""

    next_number: int
    running: int
    cost: Cost


class ArmRecord(NamedTuple):
    """A stored arm. `space` and `settings` are empty until `describe`."""

    label: str
    title: str
    method: str
    solver: str
    per: str | None
    seed: int
    state: ArmState
    settings: dict[str, Any]
    space: list[dict[str, Any]]


class TrialRecord(NamedTuple):
    """The figures of a trial; while it runs the losses are NaN and the cost is nothing.

    `summary` is {hyperparameter: [lowest, median, highest]}; `report` figures about the training and its derivative;
    `origin`: where it was imported from.
    """

    number: int
    state: TrialState
    derivative: str | None
    summary: dict[str, list[float | None]]
    validation_loss: float
    test_loss: float
    test_accuracy: float | None
    cost: Cost
    ask_seconds: float
    failure: str | None
    report: dict[str, float]
    opened: datetime
    closed: datetime | None = None
    origin: str | None = None
