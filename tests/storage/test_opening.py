"""Opening a database: what is made, what is refused, and that what is refused stays as it was."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from hpo.failures import BadStorage
from hpo.spec import Study
from hpo.storage.leases import USUAL
from hpo.storage.ledger import Ledger
from hpo.storage.tables import VERSION, Table


def refused(url: str, create: bool = True) -> str:
    with pytest.raises(BadStorage) as caught:
        Ledger.open(url, create)
    message = str(caught.value)
    assert "\n" not in message
    return message


def sqlite_url(path: Path, query: str = "") -> str:
    return f"sqlite:///{path}{query}"


def test_the_tables_are_made_once_and_stamped_as_alembic_does(url: str) -> None:
    Ledger.open(url).close()
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            assert set(inspect(connection).get_table_names()) - {"sqlite_sequence"} == set(Table.metadata.tables)
            context = MigrationContext.configure(connection, opts={"version_table": "hpo_alembic_version"})
            assert context.get_current_revision() == VERSION
    finally:
        engine.dispose()
    Ledger.open(url).close()
    Ledger.open(url, create=False).close()


def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    with Ledger.open(sqlite_url(tmp_path / "hpo.db")) as ledger, ledger._database.read() as session:
        connection = session.connection()
        found = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")}
        assert found == {"journal_mode": "wal", "synchronous": 1}
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


def test_the_timeout_of_the_url_is_kept(tmp_path: Path) -> None:
    with Ledger.open(sqlite_url(tmp_path / "hpo.db", "?timeout=2.5")) as ledger, ledger._database.read() as session:
        assert session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar() == 2_500


def _start_together(urls: list[str], study: Study, barrier: Barrier) -> None:
    try:
        for url in urls:
            barrier.wait()
            with Ledger.open(url) as ledger:
                ledger.begin(study, {})
    except BaseException:
        barrier.abort()
        raise


def test_four_processes_start_on_an_empty_database_at_once(url: str, tmp_path: Path, study: Study) -> None:
    urls = [url]
    if url.startswith("sqlite"):
        urls += [sqlite_url(tmp_path / f"{i}.db") for i in range(8)]
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    processes = [context.Process(target=_start_together, args=(urls, study, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    for one in urls:
        with Ledger.open(one, create=False) as ledger:
            assert [s.name for s in ledger.studies()] == ["digits"]
            assert len(ledger.arms("digits")) == 4


def test_reading_makes_no_file(tmp_path: Path) -> None:
    assert "there is no file" in refused(sqlite_url(tmp_path / "hpo.db"), create=False)
    assert not list(tmp_path.iterdir())


def test_reading_makes_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "hpo.db"
    path.touch()
    assert "holds no studies yet" in refused(sqlite_url(path), create=False)
    assert path.read_bytes() == b""


def test_a_locked_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hpo.db"
    Ledger.open(sqlite_url(path)).close()
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        for create in (True, False):
            assert "locked by another process" in refused(sqlite_url(path, "?timeout=0.01"), create)
    finally:
        other.close()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path, study: Study) -> None:
    url = sqlite_url(tmp_path / "hpo.db", "?timeout=0.01")
    with Ledger.open(url) as ledger:
        ledger.begin(study, {})
        at_once = USUAL._replace(patience=0.0)
        with ledger._database.write() as writing, Ledger.open(url, create=False, times=at_once) as reader:
            writing.connection()
            assert [s.name for s in reader.studies()] == ["digits"]
            with pytest.raises(BadStorage, match="locked by another process"):
                reader.begin(study, {})


def test_a_read_only_database_can_be_read_and_not_written(tmp_path: Path, study: Study) -> None:
    path = tmp_path / "hpo.db"
    with Ledger.open(sqlite_url(path)) as ledger:
        ledger.begin(study, {})
    before = path.read_bytes()
    url = f"sqlite:///file:{path}?mode=ro&uri=true"
    assert "read-only: make the file and its folder writable" in refused(url)
    with Ledger.open(url, create=False) as ledger:
        assert [s.name for s in ledger.studies()] == ["digits"]
        with pytest.raises(BadStorage, match="read-only"), ledger.attend("digits", 1):
            raise AssertionError("a run without a lease")
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which nobody can write: /proc")
def test_a_folder_nobody_can_write_in_is_refused() -> None:
    assert "cannot be opened or written here" in refused("sqlite:////proc/hpo.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be opened or written here" in refused(sqlite_url(tmp_path / "hpo.db"))


def test_a_newer_database_is_refused(url: str) -> None:
    Ledger.open(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE hpo_alembic_version SET version_num = '0042'")
    engine.dispose()
    for create in (True, False):
        assert f"made by a newer hpo (its tables have layout 0042, this one has {VERSION}): use that one" in refused(
            url, create
        )


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: digits\n" * 100)
    before = path.read_bytes()
    for create in (True, False):
        assert "not a database" in refused(sqlite_url(path), create)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["study.yaml"]


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    optuna_storages = pytest.importorskip("optuna.storages")
    optuna_storages.RDBStorage(sqlite_url(path)).engine.dispose()
    before = path.read_bytes()
    for create in (True, False):
        message = refused(sqlite_url(path), create)
        assert "not a database of hpo" in message
        assert "alembic_version, studies" in message
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["optuna.db"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{tmp}/absent/hpo.db", "the folder {tmp}/absent does not exist"),
        ("sqlite:///{tmp}", "{tmp} is a folder"),
        ("sqlite:///file:{tmp}/absent/hpo.db?uri=true", "the folder {tmp}/absent does not exist"),
        ("sqlite://", "a database in memory would be forgotten"),
        ("sqlite:///:memory:", "a database in memory would be forgotten"),
        ("sqlite:///file:x?mode=memory&uri=true", "a database in memory would be forgotten"),
        (
            "sqlite:///{tmp}/hpo.db?timeout=soon",
            "a part of it is not understood (could not convert string to float: 'soon')",
        ),
        ("hpo.db", "'hpo.db' is not the URL of a database: give sqlite:///hpo.db"),
        ("", "'' is not the URL of a database"),
        ("mysql://host/db", "unknown kind of database 'mysql': use one of postgresql, sqlite"),
        ("postgres://host/db", "unknown kind of database 'postgres': use one of postgresql, sqlite; did you mean"),
        ("postgresql+nonsense://host/db", "there is no driver 'postgresql+nonsense'"),
        ("postgresql+psycopg_async://host/db", "an asynchronous driver"),
        ("postgresql+pg8000://host/db", "'pg8000' is not installed: pip install 'hpo[postgres]' and begin"),
        ("sqlite+pysqlcipher:///{tmp}/hpo.db", "is not installed: give sqlite:///hpo.db"),
        ("sqlite://host/hpo.db", "a part of it is not understood (Invalid SQLite URL"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(url: str, said: str, tmp_path: Path) -> None:
    assert said.format(tmp=tmp_path) in refused(url.format(tmp=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@127.0.0.1:1/db",
        "postgresql:/me:secret@host",
        "postgresql://me:secret@host:port/db",
        "mysql://me:secret@host/db",
        "sqlite://me:secret@host/hpo.db",
        "postgresql+nonsense://me:secret@host/db",
        "postgresql+pg8000://me:secret@host/db",
        "postgresql+psycopg_async://me:secret@host/db",
        "postgresql://me@127.0.0.1:1/db?password=secret",
        "postgresql://me:a/b@secret@127.0.0.1:1/db",
        "postgresql://me@127.0.0.1:1/db?sslpassword=secret&passfile=/secret",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    message = refused(url)
    assert "secret" not in message
    assert "***" in message


def test_a_server_that_does_not_answer_is_one_line() -> None:
    assert "no server answers there: start it, or check host and port" in refused("postgresql://me@127.0.0.1:1/db")
