"""The tables, all named `hpo_…` so that they can share a database with other programs.

    hpo_study ─< hpo_arm ─< hpo_trial ─< hpo_array
             ├─< hpo_lease        ├─< hpo_checkpoint
             └─< hpo_event        └─< hpo_event          hpo_alembic_version: one row, the layout's number

A number that is not finite: ±inf is stored as it is; NaN is stored as NULL (SQLite has no other way). So NULL in a loss
of a closed trial *is* NaN, and NULL in `test_accuracy` means that there is none. Times are UTC. No id is given twice,
not even after its row was deleted: a lease's number can serve as its token, an arm's next number never goes back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy import DateTime as NaiveDateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hpo.trial import TrialState

VERSION = "0005"

RUNNING = "state = 'running'"

ArmState = Literal["open", "complete", "failed"]
"""`open` until `Ledger.finish`; a changed budget opens a finished arm again."""

EventKind = Literal[
    "begun", "extended", "attended", "lost", "crashed", "exhausted", "interrupted", "refused", "imported"
]  # fmt: skip
"""What happened to a study (`begun`, `extended`, `attended` by a run) or to a trial: its run was `lost` (killed, or no
longer heard of), its worker `crashed` or `exhausted` the memory of a card, it was `interrupted`, what a late writer
brought was `refused`, it was `imported`."""

Broken = Literal["crashed", "exhausted"]
"""What a worker does to a trial."""


class Moment(TypeDecorator[datetime]):
    """A point in time: aware in Python, UTC without a zone in the database."""

    impl = NaiveDateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone → UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC, said so."""
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


class Table(DeclarativeBase):
    """What the tables share: JSON as text that keeps the order of its keys, and constraint names Alembic can find."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pk",
            "fk": "%(table_name)s_%(column_0_name)s_fk",
            "uq": "%(table_name)s_%(column_0_N_name)s_uq",
            "ix": "%(table_name)s_%(column_0_N_name)s_ix",
        }
    )
    type_annotation_map: ClassVar = {dict[str, Any]: JSON, list[Any]: JSON, datetime: Moment, str: Text}


class StudyRow(Table):
    """One study. `versions`: packages and the commit of the last run; `parent`: the study it branched from."""

    __tablename__ = "hpo_study"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    digest: Mapped[str]
    versions: Mapped[dict[str, Any]]
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    data_dir: Mapped[str | None]
    parent: Mapped[str | None]


class ArmRow(Table):
    """One (method, solver, seed) of a study. `space` lists the resolved groups: name, per, low, high, …, size, pieces;
    `inputs`: the shape of a row of inputs and the names of its columns (see `records.py`).

    `next_number`: of the trial to come; `running`: how many run. `trainings`, `gradient_evaluations` and `seconds` are
    what its closed trials cost, the time to ask included. A claim compares and sets all of these at once.
    """

    __tablename__ = "hpo_arm"
    __table_args__ = (UniqueConstraint("study_id", "label"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(StudyRow.id, ondelete="CASCADE"))
    position: Mapped[int]
    label: Mapped[str]
    title: Mapped[str]
    method: Mapped[str]
    solver: Mapped[str]
    per: Mapped[str | None]
    seed: Mapped[int]
    settings: Mapped[dict[str, Any]]
    space: Mapped[list[Any]]
    inputs: Mapped[dict[str, Any] | None]
    state: Mapped[ArmState] = mapped_column(Text)
    next_number: Mapped[int] = mapped_column(default=0, server_default="0")
    running: Mapped[int] = mapped_column(default=0, server_default="0")
    trainings: Mapped[int] = mapped_column(default=0, server_default="0")
    gradient_evaluations: Mapped[float] = mapped_column(default=0.0, server_default="0")
    seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")


class LeaseRow(Table):
    """A run of a study under way: its number is the token that every write of its trials carries.

    `worker` is its name; `machine` and `started` tell a process from another one of the same number. `beat`: seconds
    since 1970 by the database's clock, set again and again by the run.
    """

    __tablename__ = "hpo_lease"
    __table_args__ = (UniqueConstraint("study_id", "worker"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(StudyRow.id, ondelete="CASCADE"))
    worker: Mapped[str]
    host: Mapped[str]
    machine: Mapped[str]
    pid: Mapped[int]
    started: Mapped[int | None] = mapped_column(BigInteger)
    slots: Mapped[int]
    begun: Mapped[datetime] = mapped_column(default=now)
    beat: Mapped[float]


class TrialRow(Table):
    """One proposal and what became of it; the columns from `validation_loss` on are NULL while it runs.

    `summary` is {hyperparameter: [lowest, median, highest]} of the proposed values, `report` {name: figure or null}.
    `lease`: the run that has it, or had it when it was closed; NULL while a running trial is free to be taken up.
    `origin`: where it was imported from.
    """

    __tablename__ = "hpo_trial"
    __table_args__ = (
        UniqueConstraint("arm_id", "number"),
        Index("hpo_trial_running_ix", "arm_id", sqlite_where=text(RUNNING), postgresql_where=text(RUNNING)),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    arm_id: Mapped[int] = mapped_column(ForeignKey(ArmRow.id, ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[TrialState] = mapped_column(Text)
    derivative: Mapped[str | None]
    summary: Mapped[dict[str, Any]]
    ask_seconds: Mapped[float]
    opened: Mapped[datetime] = mapped_column(default=now)
    validation_loss: Mapped[float | None]
    test_loss: Mapped[float | None]
    test_accuracy: Mapped[float | None]
    trainings: Mapped[int | None]
    gradient_evaluations: Mapped[float | None]
    seconds: Mapped[float | None]
    failure: Mapped[str | None]
    report: Mapped[dict[str, Any] | None]
    closed: Mapped[datetime | None]
    lease: Mapped[int | None]
    origin: Mapped[str | None]


class ArrayRow(Table):
    """One array of a trial: `values/l2`, `hypergradient/l2`, `ends/l2`, `curve`, `weights/0.bias`.

    See `arrays.py`, of which `codec` is a word.
    """

    __tablename__ = "hpo_array"

    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    dtype: Mapped[str] = mapped_column(String(16))
    shape: Mapped[list[Any]]
    codec: Mapped[str] = mapped_column(String(8), default="zlib", server_default="zlib")
    data: Mapped[bytes] = mapped_column(LargeBinary)


class CheckpointRow(Table):
    """One array of what a running trial needs to go on from where it was saved; see `checkpoints.py`."""

    __tablename__ = "hpo_checkpoint"

    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    dtype: Mapped[str] = mapped_column(String(16))
    shape: Mapped[list[Any]]
    codec: Mapped[str] = mapped_column(String(8))
    data: Mapped[bytes] = mapped_column(LargeBinary)


class EventRow(Table):
    """Something that happened to a study or to one of its trials; `lease`: the run concerned."""

    __tablename__ = "hpo_event"
    __table_args__ = (
        Index("hpo_event_study_id_ix", "study_id"),
        Index("hpo_event_trial_id_ix", "trial_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(StudyRow.id, ondelete="CASCADE"))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey(TrialRow.id, ondelete="CASCADE"))
    lease: Mapped[int | None]
    kind: Mapped[EventKind] = mapped_column(Text)
    detail: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(default=now)


class VersionRow(Table):
    """The layout's number, in the table Alembic keeps it in (`version_table="hpo_alembic_version"`)."""

    __tablename__ = "hpo_alembic_version"

    version_num: Mapped[str] = mapped_column(String(32), primary_key=True)
