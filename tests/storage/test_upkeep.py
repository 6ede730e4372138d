"""Upgrades that are refused, faults found in a database, and room given back."""

from __future__ import annotations

import json
import shutil
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from old_databases import FILES, essence
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.orm import Session

from hpo.failures import BadStorage
from hpo.storage import arrays
from hpo.storage.ledger import Ledger
from hpo.storage.process import this_process
from hpo.storage.tables import VERSION, ArrayRow, CheckpointRow
from hpo.storage.upkeep import check, upgrade, vacuum

newest = pytest.mark.parametrize("old", FILES[-1:], indirect=True, ids=[FILES[-1].stem])
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def change(url: str, *statements: str) -> None:
    with connected(url) as connection:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount != 0


def trial(study: str, state: str = "complete", number: int = 0) -> str:
    """A subquery: the row of a drmad trial."""
    return (
        "(SELECT t.id FROM hpo_trial t JOIN hpo_arm a ON a.id = t.arm_id JOIN hpo_study s ON s.id = a.study_id WHERE "
        f"s.name = '{study}' AND a.label = 'drmad/0' AND t.state = '{state}' AND t.number >= {number} "
        "ORDER BY t.number LIMIT 1)"
    )


def path(url: str) -> Path:
    return Path(str(make_url(url).database))


def refused(call: object, url: str) -> str:
    assert callable(call)
    with pytest.raises(BadStorage) as caught:
        call(url)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def present(old_url: str) -> str:
    """A database with a finished study and a killed one, of the present layout."""
    upgrade(old_url)
    return old_url


@pytest.mark.parametrize("old", FILES[1:2], indirect=True, ids=["0002"])
def test_a_study_that_an_older_hpo_runs_is_not_upgraded_under_its_feet(old_url: str) -> None:
    def held(**process: object) -> None:
        with connected(old_url) as connection:
            holder = {"of": json.dumps(process)}
            connection.execute(text("UPDATE hpo_study SET holder = :of WHERE name = 'killed'"), holder)

    held(**this_process()._asdict())
    assert f"study 'killed' is being run by process {this_process().pid} with" in refused(upgrade, old_url)
    held(host="elsewhere", pid=1, started=None)
    message = refused(upgrade, old_url)
    remedy = message.partition("if it is gone: ")[2]
    assert "by process 1 on elsewhere" in message
    change(old_url, remedy)
    held(host=socket.gethostname(), pid=this_process().pid, started=-1)  # gone, and its number given again
    assert upgrade(old_url).now == VERSION


def test_what_is_not_of_hpo_is_not_upgraded(url: str) -> None:
    with connected(url) as connection:
        connection.execute(text("CREATE TABLE theirs (id INTEGER)"))
    assert "holds nothing of hpo, so there is nothing to upgrade" in refused(upgrade, url)


def test_layouts_that_this_hpo_does_not_know_are_not_upgraded(url: str) -> None:
    Ledger.open(url).close()
    change(url, "UPDATE hpo_alembic_version SET version_num = '0042'")
    assert f"made by a newer hpo (its tables have layout 0042, this one has {VERSION})" in refused(upgrade, url)
    change(url, "UPDATE hpo_alembic_version SET version_num = '0000'", "ALTER TABLE hpo_study ADD COLUMN holder JSON")
    assert "its tables have layout 0000, which no hpo ever made" in refused(upgrade, url)


def test_nothing_is_made_where_there_is_nothing(tmp_path: Path) -> None:
    for call in (upgrade, check, vacuum):
        assert "there is no file" in refused(call, f"sqlite:///{tmp_path / 'hpo.db'}")
        message = refused(call, "postgresql://me:secret@127.0.0.1:1/db")
        assert "postgresql://me:***@127.0.0.1:1/db: " in message
    assert not list(tmp_path.iterdir())


def test_a_read_only_file_is_not_upgraded(tmp_path: Path) -> None:
    copy = tmp_path / "hpo.db"
    shutil.copy(FILES[0], copy)
    change(f"sqlite:///{copy}", "UPDATE hpo_study SET holder = NULL")
    before = copy.read_bytes()
    assert "read-only" in refused(upgrade, f"sqlite:///file:{copy}?mode=ro&uri=true")
    assert copy.read_bytes() == before


def test_older_databases_are_sent_to_the_upgrade(old_url: str) -> None:
    for call in (check, vacuum):
        assert "run hpo db upgrade" in refused(call, old_url)


@newest
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (
            "UPDATE hpo_arm SET running = 5 WHERE label = 'drmad/0' AND state = 'complete'",
            "finished drmad/0: running is 5, its trials make it 0",
        ),
        (
            "UPDATE hpo_arm SET seconds = 0.25 WHERE label = 'random-global/0' AND state = 'complete'",
            "finished random-global/0: seconds is 0.25, its trials make it",
        ),
        (
            f"DELETE FROM hpo_array WHERE name = 'curve' AND trial_id = {trial('finished')}",
            "finished drmad/0 trial 0: it is closed and has no curve",
        ),
        (
            f"DELETE FROM hpo_array WHERE name LIKE 'values/%' AND trial_id = {trial('killed', 'running')}",
            "killed drmad/0 trial 2: it has no values",
        ),
        (
            f"UPDATE hpo_trial SET lease = 99 WHERE id = {trial('killed', 'running')}",
            "killed drmad/0 trial 2: it runs under a lease that is gone",
        ),
        (
            f"UPDATE hpo_array SET codec = 'lzma' WHERE name = 'curve' AND trial_id = {trial('finished', number=3)}",
            "finished drmad/0 trial 3: the array 'curve' does not decode (unknown codec 'lzma')",
        ),
        (
            f"UPDATE hpo_array SET shape = '[7]' WHERE name = 'curve' AND trial_id = {trial('finished')}",
            "finished drmad/0 trial 0: the array 'curve' does not decode (cannot reshape",
        ),
        (
            f"UPDATE hpo_array SET dtype = 'number' WHERE name = 'curve' AND trial_id = {trial('finished')}",
            "finished drmad/0 trial 0: the array 'curve' does not decode (data type 'number' not understood)",
        ),
        (
            f"UPDATE hpo_array SET data = dtype::bytea WHERE name = 'curve' AND trial_id = {trial('finished')}",
            "finished drmad/0 trial 0: the array 'curve' does not decode (Error -3",
        ),
        ("DROP INDEX hpo_trial_running_ix", "index hpo_trial_running_ix is missing"),
        ("ALTER TABLE hpo_arm ADD COLUMN colour TEXT", "column hpo_arm.colour is unknown"),
    ],
)
def test_a_fault_is_found_and_named(present: str, damage: str, fault: str) -> None:
    change(present, damage if present.startswith("postgres") else damage.replace("dtype::bytea", "x'001122'"))
    found = check(present)
    assert len(found) == 1
    assert found[0].startswith(fault)


@newest
@on_sqlite
def test_rows_that_belong_to_nothing_are_found(present: str) -> None:
    change(present, "DELETE FROM hpo_arm WHERE label = 'drmad/0' AND state = 'complete'")  # foreign keys off
    found = check(present)
    assert found == [f"row {row} of hpo_trial: what it belongs to in hpo_arm is gone" for row in (1, 3, 5, 7)]


@newest
@on_sqlite
def test_a_damaged_file_is_found(present: str) -> None:
    def overwrite(table: str, at: int) -> None:
        with connected(present) as connection:
            page = connection.scalar(text(f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'"))
            size = connection.scalar(text("PRAGMA page_size"))
        with path(present).open("r+b") as file:
            file.seek((page - 1) * size + at % size)
            file.write(b"\xff\xff")

    overwrite("sqlite_autoindex_hpo_trial_1", at=-2)
    found = check(present)
    assert found
    assert all(fault.startswith("the file: ") for fault in found)
    overwrite("hpo_array", at=0)
    assert "damaged" in refused(check, present)


@newest
def test_memory_stays_flat_however_many_arrays_there_are(present: str) -> None:
    zeros = {f"weights/{i}": np.zeros(1_000_000) for i in range(40)}
    with connected(present) as connection, Session(connection) as session:
        session.add_all(arrays.pack(1, zeros, ArrayRow))
        session.flush()
    tracemalloc.start()
    try:
        assert check(present) == []
        assert tracemalloc.get_traced_memory()[1] < 60e6  # all of them are 320 MB
    finally:
        tracemalloc.stop()


@newest
def test_room_is_given_back_and_nothing_is_lost(present: str) -> None:
    with connected(present) as connection, Session(connection) as session:
        ids = {name: connection.scalar(text(f"SELECT {row}")) for name, row in
               {"closed": trial("finished"), "running": trial("killed", "running")}.items()}  # fmt: skip
        noise = np.random.default_rng(0).uniform(size=100_000)
        for trial_id in ids.values():
            session.add_all(arrays.pack(trial_id, {"state/0": noise}, CheckpointRow))
        session.flush()
        connection.execute(text("CREATE TABLE theirs AS SELECT * FROM hpo_array"))
    assert check(present) == ["finished drmad/0 trial 0: it is closed and has a checkpoint (hpo db vacuum drops it)"]
    with Ledger.open(present) as ledger:
        before = {study.name: essence(ledger, study.name) for study in ledger.studies()}
    place = None if present.startswith("sqlite") else "SELECT pg_relation_filenode('{}')"
    with connected(present) as connection:
        files = [place and connection.scalar(text(place.format(name))) for name in ("theirs", "hpo_array")]
    found = vacuum(present)
    assert found.before - found.after > 700_000
    assert check(present) == []
    with Ledger.open(present) as ledger:
        assert {study.name: essence(ledger, study.name) for study in ledger.studies()} == before
    with connected(present) as connection:
        assert connection.execute(text("SELECT trial_id FROM hpo_checkpoint")).scalars().all() == [ids["running"]]
        if place is None:
            assert path(present).stat().st_size == found.after
        else:
            now = [connection.scalar(text(place.format(name))) for name in ("theirs", "hpo_array")]
            assert [a == b for a, b in zip(files, now, strict=True)] == [True, False]
    assert vacuum(present).before == found.after
