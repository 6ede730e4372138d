"""What the ledger tells about studies, arms and trials without loading an array."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from hpo.space import Group, Space
from hpo.spec import Study
from hpo.storage.tables import ArmState
from hpo.task import InputRow
from hpo.trial import Cost, TrialState


def described(space: Space) -> list[dict[str, Any]]:
    """The groups of a resolved space as JSON, and in `pieces` where their values go."""
    fields = ("name", "per", "low", "high", "default", "log", "size")
    return [{field: getattr(group, field) for field in fields} | {"pieces": _pieces(group)} for group in space.groups]


def _pieces(group: Group) -> list[dict[str, Any]]:
    """values[start:stop].reshape(shape) acts on `weight`; of several weights that share values, the first is named.

    Values that belong to no weight in particular (the solver's, a schedule for all) are in no piece. Of a schedule the
    first axis of the shape is time.
    """
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for piece in group.pieces:
        weight = piece.key.removesuffix("[t]").removeprefix(group.name).removeprefix(".")
        if weight:
            place = {"weight": weight, "start": piece.start, "stop": piece.stop, "shape": list(piece.shape)}
            found.setdefault((piece.start, piece.stop), place)
    return list(found.values())


def row_described(inputs: InputRow | None) -> dict[str, Any] | None:
    """{"shape": [1, 28, 28] or [F], "names": the F columns' or None}."""
    if inputs is None:
        return None
    return {"shape": list(inputs.shape), "names": None if inputs.names is None else list(inputs.names)}


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


class RunRecord(NamedTuple):
    """A run that worked on a study: its name, the machine and the number of its process, when it came."""

    worker: str
    host: str
    process: int
    begun: datetime


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
    """A stored arm. `space` and `settings` are empty until `describe`; of one that an older hpo described the pieces
    of the space and `inputs`, a row of them as `row_described` has it, are not known.
    """

    label: str
    title: str
    method: str
    solver: str
    per: str | None
    seed: int
    state: ArmState
    settings: dict[str, Any]
    space: list[dict[str, Any]]
    inputs: dict[str, Any] | None = None


class TrialRecord(NamedTuple):
    """The figures of a trial; while it runs the losses are NaN and the cost is nothing.

    `summary` is {hyperparameter: [lowest, median, highest]}; `report` figures about the training and its derivative;
    `origin`: where it was imported from; `lease`: the run that has it, or had it when it was closed.
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
    lease: int | None = None
