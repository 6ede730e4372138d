"""The ledger's questions to an open session; those for listings select columns and never touch an array."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy import exists as some
from sqlalchemy.orm import Session

from hpo.failures import BadInput, BadStorage, unknown
from hpo.spec import Study
from hpo.storage import arrays
from hpo.storage.leases import alive, leases
from hpo.storage.records import ArmRecord, RunRecord, Standing, StudyRecord, StudySummary, TrialRecord
from hpo.storage.tables import ArmRow, ArrayRow, EventRow, LeaseRow, StudyRow, TrialRow
from hpo.trial import Cost, Outcome, Proposal, Trial

IS_WEIGHT: ColumnElement[bool] = ArrayRow.name.startswith("weights/", autoescape=True)
CLOSED: ColumnElement[bool] = TrialRow.state != "running"
USABLE: ColumnElement[bool] = (
    (TrialRow.state == "complete")
    & TrialRow.origin.is_(None)
    & TrialRow.validation_loss.between(-sys.float_info.max, sys.float_info.max)
)


def names(session: Session) -> list[str]:
    """Of all studies."""
    return list(session.scalars(select(StudyRow.name)))


def study_id(session: Session, name: str) -> int:
    """Raises BadInput with the nearest name if there is none of that name."""
    found = session.scalar(select(StudyRow.id).where(StudyRow.name == name))
    if found is None:
        raise BadInput(unknown("study", name, names(session)))
    return found


def study_row(session: Session, name: str) -> StudyRow:
    """As `study_id`, the whole row."""
    return session.get_one(StudyRow, study_id(session, name))


def arm_row(session: Session, study: str, label: str) -> ArmRow:
    """Raises BadInput with the nearest name if there is no such study, or no such arm in it."""
    of_study = select(ArmRow).join(StudyRow, StudyRow.id == ArmRow.study_id).where(StudyRow.name == study)
    row = session.scalar(of_study.where(ArmRow.label == label))
    if row is None:
        raise BadInput(f"study {study!r}: " + unknown("arm", label, [a.label for a in arm_rows(session, study)]))
    return row


def arm_rows(session: Session, study: str) -> Sequence[ArmRow]:
    """The arms of a study in its order."""
    of_study = select(ArmRow).where(ArmRow.study_id == study_row(session, study).id)
    return session.scalars(of_study.order_by(ArmRow.position)).all()


def locked(session: Session, study_id: int) -> None:
    """From here on nothing else claims or closes a trial of the study until the session ends."""
    session.execute(select(ArmRow.id).where(ArmRow.study_id == study_id).order_by(ArmRow.id).with_for_update())


def trial_of(session: Session, arm_id: int, number: int, *conditions: ColumnElement[bool]) -> int | None:
    """The row of a trial, None if the arm has no such number or it does not fulfil the conditions."""
    return session.scalar(select(TrialRow.id).where(TrialRow.arm_id == arm_id, TrialRow.number == number, *conditions))


def exists(session: Session, *conditions: ColumnElement[bool]) -> bool:
    """Whether there is a trial of which all this is true."""
    return bool(session.scalar(select(some().where(*conditions))))


def best_trial_id(session: Session, arm_id: int) -> int | None:
    """The complete trial of this study with the lowest finite validation loss, the first of equals."""
    usable = select(TrialRow.id).where(TrialRow.arm_id == arm_id, USABLE)
    return session.scalar(usable.order_by(TrialRow.validation_loss, TrialRow.number).limit(1))


def spec(row: StudyRow) -> Study:
    """The stored study file. Raises BadStorage if this hpo cannot read it."""
    try:
        return Study.model_validate(row.spec)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        raise BadStorage(
            f"study {row.name!r} was stored by an hpo whose study files this one does not read "
            f"({key}: {fault['msg']}): use that hpo, or give the study another name"
        ) from error


def study(session: Session, name: str, clock: float) -> StudyRecord:
    """One study, its file read again; `clock`: the database's."""
    row = study_row(session, name)
    runs = leases(session, row.id)
    place = None if row.data_dir is None else Path(row.data_dir)
    return StudyRecord(
        spec(row), row.versions, row.created, row.updated, alive(runs, clock), len(runs), place, row.parent
    )


def studies(session: Session, clock: float) -> list[StudySummary]:
    """All studies, oldest first, from four small queries; `clock`: the database's."""
    states: dict[int, dict[str, int]] = {}
    counted = select(ArmRow.study_id, ArmRow.state, func.count()).group_by(ArmRow.study_id, ArmRow.state)
    for study_id, state, count in session.execute(counted):
        states.setdefault(study_id, {})[state] = count
    lowest = func.min(case((USABLE, TrialRow.validation_loss)))
    totals = select(ArmRow.study_id, func.count(), lowest).join(TrialRow, TrialRow.arm_id == ArmRow.id)
    trials = {
        key: (count, best) for key, count, best in session.execute(totals.where(CLOSED).group_by(ArmRow.study_id))
    }
    runs: dict[int, list[LeaseRow]] = {}
    for lease in session.scalars(select(LeaseRow)):
        runs.setdefault(lease.study_id, []).append(lease)
    columns = select(StudyRow.id, StudyRow.name, StudyRow.created, StudyRow.updated)
    return [
        StudySummary(
            name, created, updated, alive(runs.get(key, []), clock), states.get(key, {}), *trials.get(key, (0, None))
        )
        for key, name, created, updated in session.execute(columns.order_by(StudyRow.id))
    ]


def arms(session: Session, study: str) -> list[ArmRecord]:
    """The arms of a study in its order."""
    return [
        ArmRecord(a.label, a.title, a.method, a.solver, a.per, a.seed, a.state, a.settings, a.space, a.inputs)
        for a in arm_rows(session, study)
    ]


def figures(session: Session, study: str) -> dict[str, list[TrialRecord]]:
    """Every arm's trials by number, without their arrays."""
    by_arm: dict[int, list[TrialRecord]] = {}
    columns = select(*(c for c in TrialRow.__table__.columns if c.name != "id"))
    of_study = columns.join(ArmRow, ArmRow.id == TrialRow.arm_id).where(ArmRow.study_id == study_row(session, study).id)
    for row in session.execute(of_study.order_by(TrialRow.arm_id, TrialRow.number)):
        by_arm.setdefault(row.arm_id, []).append(
            TrialRecord(
                number=row.number,
                state=row.state,
                derivative=row.derivative,
                summary=row.summary,
                validation_loss=_figure(row.validation_loss),
                test_loss=_figure(row.test_loss),
                test_accuracy=row.test_accuracy,
                cost=_cost(row.trainings, row.gradient_evaluations, row.seconds),
                ask_seconds=row.ask_seconds,
                failure=row.failure,
                report=_report(row.report),
                opened=row.opened,
                closed=row.closed,
                origin=row.origin,
                lease=row.lease,
            )
        )
    return {a.label: by_arm.get(a.id, []) for a in arm_rows(session, study)}


def attendance(session: Session, study: str) -> dict[int, RunRecord]:
    """Every run that had a lease of the study, by the lease's number."""
    noted = select(EventRow.lease, EventRow.detail, EventRow.at).where(EventRow.kind == "attended")
    of_study = noted.where(EventRow.study_id == study_id(session, study)).order_by(EventRow.id)
    return {
        row.lease: RunRecord(row.detail["worker"], row.detail["host"], row.detail["process"], row.at)
        for row in session.execute(of_study)
    }


def standing(session: Session, study: str) -> dict[str, Standing]:
    """Where every arm stands, by label; no study is without arms. Asked before every trial, so in one question."""
    columns = select(
        ArmRow.label, ArmRow.next_number, ArmRow.running, ArmRow.trainings, ArmRow.gradient_evaluations, ArmRow.seconds
    )
    of_study = columns.join(StudyRow, StudyRow.id == ArmRow.study_id).where(StudyRow.name == study)
    rows = session.execute(of_study.order_by(ArmRow.position)).all()
    if not rows:
        study_id(session, study)
    return {row.label: Standing(row.next_number, row.running, _cost(*row[3:])) for row in rows}


def trials(session: Session, arm_id: int, *, since: int = 0, among: Sequence[int] = ()) -> list[Trial]:
    """The trials of an arm by number, with their arrays, weights left out: those from `since` on, and those `among`."""
    wanted = (TrialRow.arm_id == arm_id) & ((TrialRow.number >= since) | TrialRow.number.in_(among))
    kept = select(ArrayRow).join(TrialRow, TrialRow.id == ArrayRow.trial_id).where(wanted, ~IS_WEIGHT)
    found = arrays.by_trial(session.scalars(kept.order_by(ArrayRow.trial_id, ArrayRow.position)))
    rows = session.scalars(select(TrialRow).where(wanted).order_by(TrialRow.number))
    return [_trial(row, found.get(row.id, {})) for row in rows]


def proposal(session: Session, row: TrialRow) -> Proposal:
    """What was proposed for a trial."""
    kept = select(ArrayRow).where(ArrayRow.trial_id == row.id).order_by(ArrayRow.position)
    named = arrays.by_trial(session.scalars(kept)).get(row.id, {})
    return Proposal(row.number, arrays.part("values", named), row.derivative)


def weights(session: Session, arm_id: int, number: int) -> dict[str, NDArray[np.generic]] | None:
    """The weights kept for a trial, None if there are none."""
    kept = select(ArrayRow).where(ArrayRow.trial_id == trial_of(session, arm_id, number), IS_WEIGHT)
    rows = session.scalars(kept.order_by(ArrayRow.position)).all()
    return {row.name.removeprefix("weights/"): arrays.unpack(row) for row in rows} or None


def _trial(row: TrialRow, named: arrays.Named) -> Trial:
    proposal = Proposal(row.number, arrays.part("values", named), row.derivative)
    state = row.state
    if state == "running":
        return Trial(proposal)
    if "curve" not in named:
        raise BadStorage(f"trial row {row.id} has lost its learning curve: see hpo db check")
    outcome = Outcome(
        state=state,
        validation_loss=_figure(row.validation_loss),
        test_loss=_figure(row.test_loss),
        test_accuracy=row.test_accuracy,
        curve=named["curve"],
        cost=_cost(row.trainings, row.gradient_evaluations, row.seconds),
        hypergradient=arrays.part("hypergradient", named) or None,
        ends=arrays.part("ends", named) or None,
        failure=row.failure,
        report=_report(row.report),
    )
    return Trial(proposal, outcome, row.origin)


def _report(stored: dict[str, float | None] | None) -> dict[str, float]:
    return {name: _figure(figure) for name, figure in (stored or {}).items()}


def _figure(stored: float | None) -> float:
    return math.nan if stored is None else stored


def _cost(trainings: int | None, gradient_evaluations: float | None, seconds: float | None) -> Cost:
    return Cost(int(trainings or 0), gradient_evaluations or 0.0, seconds or 0.0)
