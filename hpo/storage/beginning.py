"""A study stored for the first time, or continued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hpo.spec import Arm, Study
from hpo.storage import continuation, reading
from hpo.storage.tables import ArmRow, EventRow, StudyRow, now


def begin(session: Session, study: Study, versions: Mapping[str, str], data_dir: Path | None) -> StudyRow:
    """As `Ledger.begin`."""
    row = session.scalar(select(StudyRow).where(StudyRow.name == study.name))
    extended = False
    if row is None:
        row = StudyRow(name=study.name)
        session.add(row)
    else:
        stored = reading.spec(row)
        continuation.check(stored, study)
        extended = stored.budget != study.budget
    row.spec, row.digest, row.versions, row.updated = study.canonical(), study.digest(), dict(versions), now()
    row.data_dir = row.data_dir if data_dir is None else str(data_dir.absolute())
    session.flush()
    if extended:
        session.execute(update(ArmRow).where(ArmRow.study_id == row.id).values(state="open"))
    detail = {"budget": study.budget.model_dump(exclude_none=True), "digest": row.digest}
    session.add(EventRow(study_id=row.id, kind="extended" if extended else "begun", detail=detail))
    known = {arm.label: arm for arm in session.scalars(select(ArmRow).where(ArmRow.study_id == row.id))}
    for position, arm in enumerate(study.arms()):
        if arm.label in known:
            known[arm.label].position = position
        else:
            session.add(_new_arm(row.id, position, arm))
    session.flush()
    return row


def _new_arm(study_id: int, position: int, arm: Arm) -> ArmRow:
    return ArmRow(
        study_id=study_id,
        position=position,
        label=arm.label,
        title=arm.title,
        method=arm.method.name,
        solver=arm.solver.name,
        per=arm.method.per,
        seed=arm.seed,
        settings={},
        space=[],
        state="open",
    )
