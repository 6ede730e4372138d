"""Looking after a database: an older layout brought up to date, faults found, room given back.

    upgrade("sqlite:///hpo.db")      # ("0001", "0004"): in one transaction, all or nothing
    check("sqlite:///hpo.db")        # []: nothing wrong
    vacuum("sqlite:///hpo.db")       # (13361152, 9900032): bytes before and after

Each raises BadStorage, in one line, where the database cannot be used.
"""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

from alembic.util import CommandError
from sqlalchemy import JSON, Connection, column, delete, inspect, select, table, text
from sqlalchemy.orm import Session

from hpo.failures import BadStorage
from hpo.storage import address, faults
from hpo.storage.engine import Database
from hpo.storage.migrations import migrate
from hpo.storage.process import Process, machine
from hpo.storage.reading import CLOSED
from hpo.storage.tables import VERSION, CheckpointRow, Table, TrialRow, VersionRow

HELD_UNTIL = "0002"
"""The last layout in which a study names the process that runs it."""


class Layouts(NamedTuple):
    """Before and after an upgrade; the same where there was nothing to do."""

    found: str
    now: str


class Bytes(NamedTuple):
    """What a database takes, before and after."""

    before: int
    after: int


def upgrade(url: str) -> Layouts:
    """Brings the tables to the present layout; a process killed in the middle leaves the old ones as they were.

    Of several at once one does it, the others wait and find nothing to do. Other programs' tables are not touched.
    Raises BadStorage if there is nothing of hpo, it is newer, or an older hpo may be running one of the studies.
    """
    parsed = address.parse(url)
    address.check_file(parsed, create=False)
    with closing(Database(parsed)) as database, database.write() as session:
        database.alone(session)
        connection = session.connection()
        found = _layout(database.name, connection)
        if found != VERSION:
            if found <= HELD_UNTIL:
                _refuse_if_held(database.name, connection)
            try:
                migrate(connection)
            except CommandError as error:
                raise BadStorage(f"{database.name}: its tables have layout {found}, which no hpo ever made") from error
        return Layouts(found, VERSION)


def _layout(name: str, connection: Connection) -> str:
    if VersionRow.__tablename__ not in inspect(connection).get_table_names():
        raise BadStorage(f"{name}: holds nothing of hpo, so there is nothing to upgrade: give --storage")
    found = str(connection.scalar(select(VersionRow.version_num)))
    if found > VERSION:
        raise BadStorage(f"{name}: made by a newer hpo (its tables have layout {found}, this one has {VERSION})")
    return found


def _refuse_if_held(name: str, connection: Connection) -> None:
    held = table("hpo_study", column("name"), column("holder", JSON))
    for study, holder in connection.execute(select(held.c.name, held.c.holder)):
        if holder is None:
            continue
        process = Process(holder["host"], machine(), holder["pid"], holder["started"])
        if process.alive():
            gone = f"; if it is gone: UPDATE hpo_study SET holder = NULL WHERE name = '{study}'"
            raise BadStorage(
                f"{name}: study {study!r} is being run by {process} with the hpo of that layout: stop it first"
                + ("" if process.here else gone)
            )


def check(url: str) -> list[str]:
    """What is wrong with a database of the present layout, one line each; nothing is changed.

    The file itself and its foreign keys on SQLite; then, on either kind: the tables are those of this hpo, every arm's
    counters agree with its trials, trials have what belongs to them, every array decodes to its shape. Arrays are read
    a few at a time.
    """
    with closing(Database.open(url, create=False)) as database, database.read() as session:
        return list(faults.found(session))


def vacuum(url: str) -> Bytes:
    """Drops checkpoints of closed trials and gives the room of deleted rows back.

    SQLite rewrites the file and needs as much room again meanwhile; PostgreSQL rewrites hpo's tables one by one, and
    runs wait for it.
    """
    with closing(Database.open(url, create=False)) as database:
        with database.read() as session:
            before = _size(session)
        with database.write() as session:
            closed = select(TrialRow.id).where(CLOSED)
            session.execute(delete(CheckpointRow).where(CheckpointRow.trial_id.in_(closed)))
        with database.outside() as connection:
            if connection.dialect.name == "sqlite":
                connection.execute(text("VACUUM"))
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
            else:
                for name in Table.metadata.tables:
                    connection.execute(text(f"VACUUM FULL {name}"))
        with database.read() as session:
            return Bytes(before, _size(session))


def _size(session: Session) -> int:
    if session.connection().dialect.name == "sqlite":
        pages, size = (session.scalar(text(f"PRAGMA {asked}")) for asked in ("page_count", "page_size"))
        return int(pages or 0) * int(size or 0)
    total = " + ".join(f"pg_total_relation_size('{name}')" for name in Table.metadata.tables)
    return int(session.scalar(text(f"SELECT {total}")) or 0)
