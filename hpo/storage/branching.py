"""A study that begins where another one stands, and trials that come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, insert, literal, null, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from hpo.failures import BadStudy
from hpo.spec import Arm, Study
from hpo.storage import arrays, reading
from hpo.storage.claims import figures
from hpo.storage.tables import ArmRow, ArrayRow, EventRow, StudyRow, Table, TrialRow
from hpo.trial import Trial


def same_arms(old: Study, new: Study) -> list[Arm]:
    """The arms of `new` whose trials would be what they were in `old`: nothing that they depend on was changed."""
    if (old.problem, old.training.steps, old.training.batch_size, [*old.space.items()]) != (
        new.problem, new.training.steps, new.training.batch_size, [*new.space.items()],
    ):  # fmt: skip
        return []
    before = {arm.label: arm for arm in old.arms()}
    return [arm for arm in new.arms() if before.get(arm.label) == arm]


def copy(session: Session, parent: StudyRow, child: StudyRow, arms: Sequence[Arm]) -> None:
    """Gives the child's arms the trials that the parent's arms of these labels have; running ones run nowhere."""
    reading.locked(session, parent.id)  # the trials and what the arms say of them are of one moment
    for arm in arms:
        old, new = (reading.arm_row(session, name, arm.label) for name in (parent.name, child.name))
        for column in (
            "settings", "space", "inputs", "next_number", "running", "trainings", "gradient_evaluations", "seconds",
        ):  # fmt: skip
            setattr(new, column, getattr(old, column))
        session.flush()
        trials = _columns(TrialRow, "id", "arm_id", "lease")
        chosen = select(literal(new.id), null(), *trials).where(TrialRow.arm_id == old.id).order_by(TrialRow.number)
        _insert(session, TrialRow, ["arm_id", "lease"], trials, chosen)
        copied, rows = aliased(TrialRow), _columns(ArrayRow, "trial_id")
        pairs = (copied.arm_id == new.id) & (copied.number == TrialRow.number)
        kept = select(copied.id, *rows).select_from(ArrayRow).join(TrialRow).join(copied, pairs)
        _insert(session, ArrayRow, ["trial_id"], rows, kept.where(TrialRow.arm_id == old.id))


def adopt(session: Session, arm: ArmRow, trials: Sequence[Trial], origin: str) -> None:
    """Closed trials from elsewhere as the arm's next ones, which cost it nothing.

    Raises BadStudy if the arm has had some from there before.
    """
    reading.locked(session, arm.study_id)
    session.refresh(arm)
    if reading.exists(session, TrialRow.arm_id == arm.id, TrialRow.origin == origin):
        raise BadStudy(f"arm {arm.label} has the trials of {origin} already: nothing was imported")
    for number, trial in enumerate(trials, arm.next_number):
        assert trial.outcome is not None  # only finished trials come in
        row = TrialRow(
            arm_id=arm.id,
            number=number,
            derivative=None,
            summary=arrays.summary(trial.proposal),
            ask_seconds=0.0,
            origin=origin,
            **figures(trial.outcome),
        )
        session.add(row)
        session.flush()
        kept = arrays.prefixed("values", trial.proposal.values) | arrays.of_outcome(trial.outcome)
        session.add_all(arrays.pack(row.id, kept))
    arm.next_number += len(trials)
    session.add(
        EventRow(
            study_id=arm.study_id, kind="imported", detail={"arm": arm.label, "from": origin, "trials": len(trials)}
        )
    )


def _columns(table: type[Table], *without: str) -> list[InstrumentedAttribute]:
    return [getattr(table, column.name) for column in table.__table__.columns if column.name not in without]


def _insert(
    session: Session, table: type[Table], first: Sequence[str], rest: Sequence[InstrumentedAttribute], rows: Select
) -> None:
    session.execute(insert(table).from_select([*first, *(c.key for c in rest)], rows, include_defaults=False))
