"""What every report says of an arm: who it is, where it stands, what it cost, which trial it would hand over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hpo.reports import comparison
from hpo.storage.records import ArmRecord, TrialRecord
from hpo.trial import Cost
from solvers.ranges import GRAINS

Json = dict[str, Any]

ENDED = ("complete", "failed")
"""The states of an arm of which nothing more is to come."""


def best(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial an arm hands over: complete and its own, with the lowest finite validation loss."""
    own = [t.state == "complete" and t.origin is None for t in trials]
    chosen = comparison.select(own, [t.validation_loss for t in trials])
    return None if chosen is None else trials[chosen]


def total(trials: Sequence[TrialRecord]) -> Cost:
    """What the closed trials of an arm cost; the seconds include those the method took to ask."""
    closed = [t for t in trials if t.state != "running"]
    return Cost(
        trainings=sum(t.cost.trainings for t in closed),
        gradient_evaluations=sum(t.cost.gradient_evaluations for t in closed),
        seconds=sum(t.cost.seconds + t.ask_seconds for t in closed),
    )


def identity(arm: ArmRecord) -> Json:
    """`per` is the method's own wish, else the finest grain of its space."""
    grains = [group["per"] for group in arm.space]
    finest = max(grains, key=GRAINS.index, default=None)
    return {
        "label": arm.label,
        "title": arm.title,
        "method": arm.method,
        "solver": arm.solver,
        "per": arm.per or finest,
        "seed": arm.seed,
    }


def cost_of(cost: Cost) -> Json:
    return {
        "trainings": cost.trainings,
        "gradient_evaluations": cost.gradient_evaluations,
        "seconds": cost.seconds,
    }


def state_of(arm: ArmRecord, trials: Sequence[TrialRecord], running: bool) -> str:
    """`complete`, `failed`; of an arm still open: `waiting` before its first trial, else `running` or `stopped`."""
    if arm.state != "open":
        return arm.state
    if not trials:
        return "waiting"
    return "running" if running else "stopped"


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
