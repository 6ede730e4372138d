"""Who has which trial: claimed once, closed once, whatever dies in between.

A new trial is claimed by one compare-and-swap on its arm: the next number is still the one that was proposed, fewer run
than may, and the budget has room for what runs and one more. A trial whose run died is taken up by another on the trial
itself: it is free and still running. Only the lease that has a trial may close it.

Each of these may be asked again when nobody knows whether the last time came through: it then sees its own work.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, get_args

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from hpo.storage import arrays, leases, reading
from hpo.storage.leases import Lease
from hpo.storage.tables import ArmRow, ArrayRow, Broken, CheckpointRow, EventKind, EventRow, TrialRow, now
from hpo.trial import Outcome, Proposal

LAST_EVENT = "last_event"
"""In a checkpoint: the number of the last event before it."""

SLACK = 1 + 1e-12
"""So that a budget of n times a charge allows n trials, rounding or not."""


class Terms(NamedTuple):
    """On which a trial may start: `unit` and `amount` of the arm's budget, what one trial is charged, how many may run.

    `charge` is 0 where it is not known before: then a trial starts while anything is left.
    """

    unit: str
    amount: float
    charge: float
    width: int


class Claim(NamedTuple):
    """A trial this run has. `saved`: a checkpoint is there to go on from."""

    lease: Lease
    arm: str
    trial_id: int
    number: int
    saved: bool = False


class Found(NamedTuple):
    """A trial whose run died, taken up; how often that happened, by cause, since it last got on."""

    claim: Claim
    proposal: Proposal
    ask_seconds: float
    causes: Mapping[str, int]


def claim(
    session: Session, lease: Lease, arm: ArmRow, proposal: Proposal, ask_seconds: float, terms: Terms
) -> Claim | None:
    """The trial, running; None if the arm has moved on or its budget has no room. Raises LeaseLost."""
    leases.check(session, lease)
    spent = getattr(ArmRow, terms.unit)
    swap = update(ArmRow).where(
        ArmRow.id == arm.id,
        ArmRow.next_number == proposal.number,
        ArmRow.running < terms.width,
        spent + (ArmRow.running + 1) * terms.charge <= terms.amount * SLACK if terms.charge else spent < terms.amount,
    )
    counted = swap.values(next_number=ArmRow.next_number + 1, running=ArmRow.running + 1)
    if session.scalar(counted.returning(ArmRow.id)) is None:
        mine = reading.trial_of(session, arm.id, proposal.number, TrialRow.lease == lease.token)
        return None if mine is None else Claim(lease, arm.label, mine, proposal.number)
    row = TrialRow(
        arm_id=arm.id,
        number=proposal.number,
        state="running",
        derivative=proposal.derivative,
        summary=arrays.summary(proposal),
        ask_seconds=float(ask_seconds),
        lease=lease.token,
    )
    session.add(row)
    session.flush()
    session.add_all(arrays.pack(row.id, arrays.prefixed("values", proposal.values)))
    return Claim(lease, arm.label, row.id, proposal.number)


def take_up(session: Session, lease: Lease, arms: Collection[str], hand: Collection[int]) -> Found | None:
    """As `Ledger.take_up`."""
    leases.check(session, lease)
    candidates = (
        select(TrialRow.id)
        .join(ArmRow, ArmRow.id == TrialRow.arm_id)
        .where(ArmRow.study_id == lease.study_id, ArmRow.label.in_(arms), TrialRow.state == "running")
        .order_by(ArmRow.position, TrialRow.number)
        .limit(1)
    )
    dropped = session.scalar(candidates.where(TrialRow.lease == lease.token, TrialRow.id.not_in(hand)))
    if dropped is None:
        free = candidates.where(TrialRow.lease.is_(None)).scalar_subquery()
        taken = update(TrialRow).where(TrialRow.id == free, TrialRow.lease.is_(None)).values(lease=lease.token)
        dropped = session.scalar(taken.returning(TrialRow.id))
    if dropped is None:
        return None
    row = session.get_one(TrialRow, dropped)
    arm = session.get_one(ArmRow, row.arm_id)
    saved = session.scalar(select(exists().where(CheckpointRow.trial_id == row.id)))
    mine = Claim(lease, arm.label, row.id, row.number, bool(saved))
    return Found(mine, reading.proposal(session, row), row.ask_seconds, causes(session, row.id))


def causes(session: Session, trial_id: int) -> dict[str, int]:
    """How often the trial's run was lost, or its worker crashed or had no memory, since it last got on."""
    counted = select(EventRow.kind, func.count().label("times")).where(
        EventRow.trial_id == trial_id,
        EventRow.kind.in_(("lost", *get_args(Broken))),
        EventRow.id > seen(session, trial_id),
    )
    return {row.kind: row.times for row in session.execute(counted.group_by(EventRow.kind))}


def seen(session: Session, trial_id: int) -> int:
    """The last event before the trial's checkpoint, 0 if it has none."""
    kept = CheckpointRow.trial_id == trial_id, CheckpointRow.name == LAST_EVENT
    row = session.scalar(select(CheckpointRow).where(*kept))
    return 0 if row is None else int(arrays.unpack(row))


def broken(session: Session, claim: Claim, attempt: int, kind: Broken) -> int | None:
    """As `Ledger.broken`."""
    mine = TrialRow.id == claim.trial_id, TrialRow.lease == claim.lease.token, TrialRow.state == "running"
    if not reading.exists(session, *mine):
        return None
    of_run = EventRow.trial_id == claim.trial_id, EventRow.lease == claim.lease.token, EventRow.kind == kind
    if {"attempt": attempt} not in session.scalars(select(EventRow.detail).where(*of_run)).all():
        note(session, claim, kind, attempt=attempt)
    return causes(session, claim.trial_id).get(kind, 0)


def note(session: Session, claim: Claim, kind: EventKind, **detail: int) -> None:
    """Something happened to a trial this run has, or had."""
    session.add(
        EventRow(
            study_id=claim.lease.study_id, trial_id=claim.trial_id, lease=claim.lease.token, kind=kind, detail=detail
        )
    )
    session.flush()


def close(session: Session, claim: Claim, outcome: Outcome) -> bool:
    """Stores what became of the trial; False, and nothing but a note, if this run has it no more.

    An arm keeps the weights of its best trial alone: weights that come with another one, which was under way when a
    better one ended, are not stored.
    """
    mine = TrialRow.id == claim.trial_id, TrialRow.lease == claim.lease.token
    closing = update(TrialRow).where(*mine, TrialRow.state == "running").values(figures(outcome))
    row = session.execute(closing.returning(TrialRow.arm_id, TrialRow.ask_seconds)).one_or_none()
    if row is None:
        if reading.exists(session, *mine):
            return True  # closed by this very claim, when nobody knew whether it came through
        if reading.exists(session, TrialRow.id == claim.trial_id):
            note(session, claim, "refused")
        return False
    cost = outcome.cost
    session.execute(
        update(ArmRow)
        .where(ArmRow.id == row.arm_id)
        .values(
            running=ArmRow.running - 1,
            trainings=ArmRow.trainings + int(cost.trainings),
            gradient_evaluations=ArmRow.gradient_evaluations + float(cost.gradient_evaluations),
            seconds=ArmRow.seconds + (float(cost.seconds) + row.ask_seconds),
        )
    )
    session.execute(delete(CheckpointRow).where(CheckpointRow.trial_id == claim.trial_id))
    kept = arrays.of_outcome(outcome)
    if outcome.weights is not None and claim.trial_id == reading.best_trial_id(session, row.arm_id):
        of_arm = select(TrialRow.id).where(TrialRow.arm_id == row.arm_id)
        session.execute(delete(ArrayRow).where(ArrayRow.trial_id.in_(of_arm), reading.IS_WEIGHT))
        kept |= arrays.prefixed("weights", outcome.weights)
    session.add_all(arrays.pack(claim.trial_id, kept))
    return True


def figures(outcome: Outcome) -> dict[str, Any]:
    """The columns of a closed trial."""
    return {
        "state": outcome.state,
        "validation_loss": _or_null(outcome.validation_loss),
        "test_loss": _or_null(outcome.test_loss),
        "test_accuracy": None if outcome.test_accuracy is None else _or_null(outcome.test_accuracy),
        "trainings": int(outcome.cost.trainings),
        "gradient_evaluations": float(outcome.cost.gradient_evaluations),
        "seconds": float(outcome.cost.seconds),
        "failure": outcome.failure,
        "report": {name: float(figure) if math.isfinite(figure) else None for name, figure in outcome.report.items()},
        "closed": now(),
    }


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
