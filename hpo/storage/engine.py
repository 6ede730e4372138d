"""Opening a database, and the two kinds of transaction on it; every refusal is one line.

PostgreSQL: a server that does not answer within half a minute counts as gone, unless the URL says otherwise.

SQLite: write-ahead log, synchronous=NORMAL (a killed process loses nothing, a power cut at most the last commits),
foreign keys on, thirty seconds of patience unless the URL says `?timeout=`. A write begins with BEGIN IMMEDIATE, so it
waits for its turn at once and never fails half-way; the tables are created in one such transaction.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from hpo.failures import BadStorage
from hpo.interruption import deferred
from hpo.storage import address
from hpo.storage.tables import VERSION, Table, VersionRow

PATIENCE = 30.0
"""Seconds to wait for another process's write."""

TIMEOUTS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""libpq's, in seconds and (the last) milliseconds: a cut network must not hold a run for hours."""

PASSING = ("08", "40", "53", "57P")
"""Classes of PostgreSQL's errors: the connection, a deadlock, no room (disk, memory, connections), the server going."""

SQLITE_CLOCK = "(julianday('now') - 2440587.5) * 86400.0"

ADVISORY_LOCK = 4_706_031
"""PostgreSQL's lock for `Database.alone`: any number, the same for everybody."""


class Unreachable(BadStorage):
    """The database cannot be reached, or cannot write, just now; what was being written is not in it."""


class Database:
    """An opened database, known to be ours: `read()` and `write()` give a session in one transaction."""

    def __init__(self, url: URL) -> None:
        self.name = address.shown_as(url)
        self._engine = _engine(url)
        self._postgresql = url.get_backend_name() == "postgresql"
        self._reading = self._beginning("BEGIN", "REPEATABLE READ")
        self._writing = self._beginning("BEGIN IMMEDIATE", "READ COMMITTED")

    @classmethod
    def open(cls, url: str, create: bool = True) -> Database:
        """Creates the tables if there are none and `create`. Raises BadStorage; leaves what it refuses as it was."""
        parsed = address.parse(url)
        address.check_file(parsed, create)
        database = cls(parsed)
        try:
            with database.write() if create else database.read() as session:
                database._recognise(session, create)
            if create:
                database._log_ahead()
        except BaseException:
            database.close()
            raise
        return database

    def read(self) -> AbstractContextManager[Session]:
        """`with database.read() as session:` a consistent view; raises BadStorage."""
        return self._transaction(self._reading)

    def write(self) -> AbstractContextManager[Session]:
        """`with database.write() as session:` all or nothing; raises BadStorage."""
        return self._transaction(self._writing)

    def clock(self, session: Session) -> float:
        """Seconds since 1970 by the database's clock, as it is now and not when the transaction began."""
        asked = "extract(epoch FROM clock_timestamp())" if self._postgresql else SQLITE_CLOCK
        return float(session.scalar(text(f"SELECT {asked}")) or 0.0)

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """`with database.outside() as connection:` no transaction, for what cannot be in one; raises BadStorage."""
        options = {"isolation_level": "AUTOCOMMIT"} if self._postgresql else {"begin": None}
        with self._explained(), self._engine.execution_options(**options).connect() as connection:
            yield connection

    def alone(self, session: Session) -> None:
        """Until the session ends, no other process is past this line; on SQLite every write is alone as it is."""
        if self._postgresql:
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def _beginning(self, begin: str, isolation_level: str) -> Engine:
        """SQLite's transactions differ in how they begin, PostgreSQL's in their isolation."""
        options = {"isolation_level": isolation_level} if self._postgresql else {"begin": begin}
        return self._engine.execution_options(**options)

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Session]:
        # What is loaded is not read again after a statement that changes it, so nothing need be kept up with it.
        with (
            deferred(),  # breaking a transaction off would leave its lock behind
            self._explained(),
            Session(engine, execution_options={"synchronize_session": False}) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # the caller's mistake, not the database's
        except json.JSONDecodeError as error:
            raise BadStorage(f"{self.name}: something in it is not JSON ({error}): see hpo db check") from error
        except DBAPIError as error:
            kind = Unreachable if self._passing(error) else BadStorage
            raise kind(f"{self.name}: {_explanation(error)}") from error

    def _passing(self, error: DBAPIError) -> bool:
        """Whether it may be over soon: a server that restarts, a cut connection, a full disk, a lock."""
        if not self._postgresql:
            return any(sign in str(error.orig) for sign in ("is full", "is locked"))
        state = getattr(error.orig, "sqlstate", None)
        cut = isinstance(error, OperationalError) and state is None
        return cut or error.connection_invalidated or (state or "").startswith(PASSING)

    def _recognise(self, session: Session, create: bool) -> None:
        if create:
            self.alone(session)
        connection = session.connection()
        found = inspect(connection).get_table_names()
        if VersionRow.__tablename__ in found:
            version = connection.scalar(select(VersionRow.version_num))
            if version != VERSION:
                raise BadStorage(f"{self.name}: {_other(str(version))}")
            if create:  # SQLite lets BEGIN IMMEDIATE pass on a read-only file; a write tells now, not after an hour
                session.execute(update(VersionRow).values(version_num=VERSION))
        elif found and not self._postgresql:
            raise BadStorage(
                f"{self.name}: not a database of hpo, it holds the tables of something else ({_some(found)}): "
                "give another file"
            )
        elif not create:
            raise BadStorage(f"{self.name}: holds no studies yet: run one first, or give --storage")
        else:
            Table.metadata.create_all(connection)
            session.add(VersionRow(version_num=VERSION))

    def _log_ahead(self) -> None:
        """Not before the database is known to be ours, and outside a transaction, as SQLite wants it.

        SQLite does not wait for other processes here, so this waits until it can have the file to itself, and tries
        again.
        """
        if self._postgresql:
            return
        while not self._logs_ahead():
            with self._transaction(self._beginning("BEGIN EXCLUSIVE", "")) as session:
                session.connection()

    def _logs_ahead(self) -> bool:
        with self.outside() as connection:
            try:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            except OperationalError as error:
                if "is locked" not in str(error.orig):
                    raise
                return False
            return True


def _other(version: str) -> str:
    if not re.fullmatch(r"\d{4}", version):
        return f"its tables have layout {version}, which no hpo has made: go back to a copy"
    if version < VERSION:
        return f"its tables have layout {version}, this hpo has {VERSION}: run hpo db upgrade on it (keep a copy first)"
    return f"made by a newer hpo (its tables have layout {version}, this one has {VERSION}): use that one"


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        timeouts = {name: seconds for name, seconds in TIMEOUTS.items() if name not in url.query}
        return create_engine(url, json_serializer=_json, connect_args=timeouts, pool_pre_ping=True)
    # isolation_level None: the driver begins nothing by itself, `_begin` does.
    patience = {} if "timeout" in url.query else {"timeout": PATIENCE}
    engine = create_engine(url, json_serializer=_json, connect_args={"isolation_level": None, **patience})
    event.listen(engine, "connect", _connected)
    event.listen(engine, "begin", _begin)
    return engine


def _connected(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON").close()
    connection.execute("PRAGMA synchronous = NORMAL").close()


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin", "BEGIN")
    if begin is not None:
        connection.exec_driver_sql(begin)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _explanation(error: DBAPIError) -> str:
    said = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
    lowered = said.lower()
    for sign, meaning in _MEANINGS.items():
        if sign in lowered:
            return meaning
    return f"the database says: {said}"


_MEANINGS = {
    "is locked": "locked by another process: wait for it or stop it, or allow more time with ?timeout=SECONDS",
    "readonly": "read-only: make the file and its folder writable, or give another --storage",
    "unable to open": "cannot be opened or written here: check the rights on the file and its folder",
    "is full": "the disk is full: make room, then go on with hpo resume; what was finished is kept",
    "no space left": "the server's disk is full: make room, then go on with hpo resume; what was finished is kept",
    "connection refused": "no server answers there: start it, or check host and port",
    "malformed": "damaged: go back to a copy, or try .recover of sqlite3",
    "not a database": "not a database: give another file, or a name that does not exist yet",
}


def _some(names: list[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")
