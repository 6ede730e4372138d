"""The tables, all named `hpo_…` so that they can share a PostgreSQL database with other programs.

    hpo_study ─< hpo_arm ─< hpo_trial ─< hpo_array          hpo_alembic_version: one row, the schema's number

A number that is not finite: ±inf is stored as it is; NaN is stored as NULL (SQLite has no other way). So NULL in a loss
of a closed trial *is* NaN, and NULL in `test_accuracy` means that there is none. Times are UTC.
`hpo_alembic_version` has Alembic's own layout: `version_table="hpo_alembic_version"` continues from here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from sqlalchemy import JSON, Dialect, ForeignKey, LargeBinary, MetaData, String, Text, TypeDecorator, UniqueConstraint
from sqlalchemy import DateTime as NaiveDateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hpo.trial import TrialState

VERSION = "0002"

ArmState = Literal["open", "complete", "failed"]
"""`open` until `Ledger.finish`; a changed budget opens a finished arm again."""


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
    """One study. `holder` is the process running it: {host, pid, started}."""

    __tablename__ = "hpo_study"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    digest: Mapped[str]
    versions: Mapped[dict[str, Any]]
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    holder: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class ArmRow(Table):
    """One (method, solver, seed) of a study. `space` lists the resolved groups: name, per, low, high, …, size."""

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
    state: Mapped[ArmState] = mapped_column(Text)


class TrialRow(Table):
    """One proposal and what became of it; the columns from `validation_loss` on are NULL while it runs.

    `summary` is {hyperparameter: [lowest, median, highest]} of the proposed values, `report` {name: figure or null}.
    """

    __tablename__ = "hpo_trial"
    __table_args__ = (UniqueConstraint("arm_id", "number"), {"sqlite_autoincrement": True})

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


class ArrayRow(Table):
    """One array of a trial: `values/l2`, `hypergradient/l2`, `ends/l2`, `curve`, `weights/0.bias`.

    See `arrays.py`.
    """

    __tablename__ = "hpo_array"

    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    dtype: Mapped[str] = mapped_column(String(16))
    shape: Mapped[list[Any]]
    data: Mapped[bytes] = mapped_column(LargeBinary)


class VersionRow(Table):
    """The schema's number, as Alembic keeps it."""

    __tablename__ = "hpo_alembic_version"

    version_num: Mapped[str] = mapped_column(String(32), primary_key=True)
