"""What can be wrong with a database, found by reading it in one transaction; a fault is one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator

from sqlalchemy import ColumnElement, Text, case, cast, exists, func, select, text
from sqlalchemy.orm import Session

from hpo.failures import BadStorage
from hpo.spec import Study
from hpo.storage import arrays
from hpo.storage.migrations import differences
from hpo.storage.reading import CLOSED
from hpo.storage.tables import ArmRow, ArrayRow, CheckpointRow, LeaseRow, StudyRow, TrialRow

AT_ONCE = 16
"""Arrays in memory; one may be as long as a network's weights."""


def found(session: Session) -> Iterator[str]:
    """All faults; but with those of the file, its references or the tables it ends: the rest could not be read."""
    sqlite = session.connection().dialect.name == "sqlite"
    for serious in (_file, _references, _tables) if sqlite else (_tables,):
        faults = list(serious(session))
        yield from faults
        if faults:
            return
    yield from _texts(session)
    yield from _counters(session)
    yield from _parts(session)
    yield from _arrays(session, ArrayRow)
    yield from _arrays(session, CheckpointRow)


def _file(session: Session) -> Iterator[str]:
    for (said,) in session.execute(text("PRAGMA integrity_check")):
        yield from (f"the file: {line}" for line in said.splitlines() if line != "ok")


def _references(session: Session) -> Iterator[str]:
    for child, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
        yield f"row {row} of {child}: what it belongs to in {parent} is gone"


def _tables(session: Session) -> Iterator[str]:
    yield from differences(session.connection())


def _texts(session: Session) -> Iterator[str]:
    """What is kept as JSON: study files that can be read, arms and trials that are JSON at all."""
    for name, text_of in session.execute(select(StudyRow.name, cast(StudyRow.spec, Text))):
        if not _understood(text_of, Study.model_validate_json):
            yield f"study {name}: its study file cannot be read"
    for table, columns in {ArmRow: (ArmRow.settings, ArmRow.space), TrialRow: (TrialRow.summary,)}.items():
        for column in columns:
            for number, text_of in session.execute(
                select(table.id, cast(column, Text)).execution_options(yield_per=1000)
            ):
                if not _understood(text_of, json.loads):
                    yield f"row {number} of {table.__tablename__}: {column.key} is not JSON"


def _understood(kept: str, read: Callable[[str], object]) -> bool:
    try:
        read(kept)
    except ValueError:
        return False
    return True


def _counters(session: Session) -> Iterator[str]:
    counted = (
        select(
            func.coalesce(func.max(TrialRow.number) + 1, 0).label("next_number"),
            func.count(case((~CLOSED, 1))).label("running"),
            *(
                func.coalesce(func.sum(case((CLOSED, spent))), 0).label(name)
                for name, spent in {
                    "trainings": TrialRow.trainings,
                    "gradient_evaluations": TrialRow.gradient_evaluations,
                    "seconds": TrialRow.seconds + TrialRow.ask_seconds,
                }.items()
            ),
            TrialRow.arm_id,
        )
        .group_by(TrialRow.arm_id)
        .subquery()
    )
    names = counted.c.keys()[:-1]
    kept = [getattr(ArmRow, name) for name in names]
    asked = select(StudyRow.name, ArmRow.label, *kept, *(func.coalesce(counted.c[name], 0) for name in names))
    joined = asked.join(ArmRow, ArmRow.study_id == StudyRow.id).outerjoin(counted, counted.c.arm_id == ArmRow.id)
    for study, label, *figures in session.execute(joined.order_by(ArmRow.id)):
        for name, says, trials in zip(names, figures[:5], figures[5:], strict=True):
            if not math.isclose(says, trials, rel_tol=1e-9, abs_tol=1e-9):
                yield f"{study} {label}: {name} is {says:.12g}, its trials make it {trials:.12g}"


def _parts(session: Session) -> Iterator[str]:
    def none(name: ColumnElement[bool]) -> ColumnElement[bool]:
        return ~exists().where(ArrayRow.trial_id == TrialRow.id, name)

    wrong = {
        "it is closed and has no curve": CLOSED & none(ArrayRow.name == "curve"),
        "it has no values": none(ArrayRow.name.startswith("values/", autoescape=True)),
        "it runs under a lease that is gone": ~CLOSED
        & TrialRow.lease.is_not(None)
        & ~exists().where(LeaseRow.id == TrialRow.lease),
        "it is closed and has a checkpoint (hpo db vacuum drops it)": CLOSED
        & exists().where(CheckpointRow.trial_id == TrialRow.id),
    }
    for fault, condition in wrong.items():
        yield from (f"{name}: {fault}" for name in _named(session, condition))


def _arrays(session: Session, kind: type[ArrayRow] | type[CheckpointRow]) -> Iterator[str]:
    wrong = []
    for row in session.scalars(select(kind).execution_options(yield_per=AT_ONCE)):
        try:
            arrays.unpack(row)
        except BadStorage as error:
            wrong.append((row.trial_id, row.name, error.__cause__))
    for trial_id, array, error in wrong:
        for name in _named(session, TrialRow.id == trial_id):
            yield f"{name}: the array {array!r} does not decode ({error})"


def _named(session: Session, condition: ColumnElement[bool]) -> list[str]:
    """What to call the trials of which this is true."""
    columns = select(StudyRow.name, ArmRow.label, TrialRow.number).join(ArmRow, ArmRow.study_id == StudyRow.id)
    joined = columns.join(TrialRow, TrialRow.arm_id == ArmRow.id).where(condition).order_by(TrialRow.id)
    return [f"{study} {label} trial {number}" for study, label, number in session.execute(joined)]
