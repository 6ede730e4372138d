"""Databases made by older versions of hpo, brought to the present layout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from old_databases import FILES, essence
from sqlalchemy import Connection, create_engine, inspect, text

from hpo.failures import BadStorage
from hpo.storage.ledger import Ledger
from hpo.storage.migrations import differences, migrate
from hpo.storage.tables import VERSION, Table
from hpo.storage.upkeep import check, upgrade

ENTRY = [sys.executable, "-c", "from hpo.cli import main; main()"]

PAUSED = """
import sys, time
from sqlalchemy import event
from sqlalchemy.engine import Engine
from hpo.storage.upkeep import upgrade

@event.listens_for(Engine, "after_cursor_execute")
def pause(connection, cursor, statement, *rest):
    if sys.argv[2] in statement:
        print("there", flush=True)
        time.sleep(600)

upgrade(sys.argv[1])
"""


AT_A_SIGN = """
import sys
from hpo.storage.upkeep import upgrade

print("ready", flush=True)
sys.stdin.readline()
print(*upgrade(sys.argv[1]))
"""


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def refused(url: str) -> str:
    with pytest.raises(BadStorage) as caught:
        upgrade(url)
    message = str(caught.value)
    assert "\n" not in message
    return message


def known(old: Path) -> dict[str, Any]:
    """What the hpo that made the database read from it."""
    return json.loads(old.with_suffix(".json").read_text())


def read(url: str) -> dict[str, Any]:
    with Ledger.open(url, create=False) as ledger:
        return {study.name: essence(ledger, study.name) for study in ledger.studies()}


def layout(url: str) -> str | None:
    with connected(url) as connection:
        return connection.scalar(text("SELECT version_num FROM hpo_alembic_version"))


def described(connection: Connection) -> dict[str, Any]:
    """The tables as the database tells them, the order of columns and constraints aside."""
    found = inspect(connection)
    parts = {}
    for name in sorted(set(found.get_table_names()) - {"hpo_alembic_version", "sqlite_sequence"}):
        columns = [{**c, "type": str(c["type"]), "default": str(c["default"])} for c in found.get_columns(name)]
        rest = [found.get_pk_constraint(name), *found.get_foreign_keys(name), *found.get_unique_constraints(name)]
        parts[name] = sorted(
            json.dumps(p, sort_keys=True, default=str) for p in [*columns, *rest, *found.get_indexes(name)]
        )
    return parts


def test_every_layout_but_this_one_is_kept() -> None:
    assert [file.stem for file in FILES] == [f"{number:04}" for number in range(1, int(VERSION))]
    assert all(file.stat().st_size < 150_000 for file in FILES)


def test_an_old_database_reads_as_before(old_url: str, old: Path) -> None:
    with pytest.raises(BadStorage, match=f"layout {old.stem}, this hpo has {VERSION}: run hpo db upgrade"):
        Ledger.open(old_url)
    assert upgrade(old_url) == (old.stem, VERSION)
    assert read(old_url) == known(old)
    assert check(old_url) == []
    with Ledger.open(old_url, create=False) as ledger:
        standing = ledger.standing("killed")["drmad/0"]
    assert (standing.next_number, standing.running, standing.cost.trainings) == (3, 1, 2)
    assert upgrade(old_url) == (VERSION, VERSION)


@pytest.mark.parametrize("old", FILES[:3], indirect=True, ids=["0001", "0002", "0003"])
def test_an_old_study_file_is_read_with_the_names_of_today(old_url: str, old: Path) -> None:
    del old
    with connected(old_url) as connection:
        before = {name: json.loads(spec) for name, spec in _specs(connection)}
    upgrade(old_url)
    with connected(old_url) as connection:
        after = {name: json.loads(spec) for name, spec in _specs(connection)}
    for name, spec in before.items():
        spec["resources"]["cpus"] = spec["resources"].pop("threads")
        assert after[name] == spec
        with Ledger.open(old_url, create=False) as ledger:
            assert ledger.study(name).spec.resources.cpus == 1


def _specs(connection: Connection) -> list[tuple[str, str]]:
    return [tuple(row) for row in connection.execute(text("SELECT name, CAST(spec AS TEXT) FROM hpo_study"))]


@pytest.mark.parametrize("old", FILES[1:2], indirect=True, ids=["0002"])
def test_databases_with_reports_that_still_say_0001(old_url: str, old: Path) -> None:
    with connected(old_url) as connection:
        connection.execute(text("UPDATE hpo_alembic_version SET version_num = '0001'"))
    assert upgrade(old_url) == ("0001", VERSION)
    assert read(old_url) == known(old)
    assert check(old_url) == []


@pytest.mark.parametrize(
    ("url", "old"), [("sqlite", FILES[0]), ("postgresql", FILES[-1])], indirect=True, ids=["oldest", "newest"]
)
def test_a_study_of_an_old_database_is_resumed_and_finished(old_url: str, old: Path) -> None:
    upgrade(old_url)
    resumed = subprocess.run(
        [*ENTRY, "resume", "killed", "--storage", old_url], check=False, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    before, now = known(old)["killed"], read(old_url)["killed"]
    for label, arm in now.items():
        assert [(t["number"], t["state"]) for t in arm["trials"]] == [(n, "complete") for n in range(4)]
        closed = [t for t in before[label]["trials"] if t["state"] == "complete"]
        assert arm["trials"][: len(closed)] == closed
    assert now["drmad/0"]["trials"][2]["values"] == before["drmad/0"]["trials"][2]["values"]
    assert check(old_url) == []


@pytest.mark.parametrize("start", [None, *(file.stem for file in FILES)])
def test_the_history_leads_to_the_present_tables(url: str, start: str | None) -> None:
    with connected(url) as connection:
        if start is not None:
            migrate(connection, start)
        migrate(connection)
        assert differences(connection) == []
        migrated = described(connection)
        Table.metadata.drop_all(connection)
        Table.metadata.create_all(connection)
        assert migrated == described(connection)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_no_number_is_given_twice_after_an_upgrade(old_url: str) -> None:
    upgrade(old_url)
    with connected(old_url) as connection:
        connection.execute(text("PRAGMA foreign_keys = ON"))
        made = dict(iter(connection.execute(text("SELECT name, sql FROM sqlite_master"))))
        numbered = [name for name, table in Table.metadata.tables.items() if "id" in table.columns]
        assert len(numbered) == 5
        assert all("AUTOINCREMENT" in made[name] for name in numbered)
        last = connection.scalar(text("SELECT max(id) FROM hpo_study"))
        connection.execute(text("DELETE FROM hpo_study"))
        assert connection.scalar(text("SELECT count(*) FROM hpo_array")) == 0
        row = (
            "INSERT INTO hpo_study (name, spec, digest, versions, created, updated) VALUES ('a', '{}', '', '{}', 0, 0)"
        )
        assert connection.scalar(text(f"{row} RETURNING id")) == last + 1


@pytest.mark.parametrize("old", FILES[:2], indirect=True, ids=["0001", "0002"])
@pytest.mark.parametrize(
    "at", ["ADD COLUMN data_dir", "UPDATE hpo_arm", "CREATE TABLE hpo_event", "UPDATE hpo_study", "UPDATE hpo_alembic"]
)
def test_an_upgrade_killed_in_the_middle_leaves_the_old_database(old_url: str, old: Path, at: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PAUSED, old_url, at], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.kill()
    assert layout(old_url) == old.stem
    with connected(old_url) as connection:
        assert "holder" in {c["name"] for c in inspect(connection).get_columns("hpo_study")}
        assert "hpo_event" not in inspect(connection).get_table_names()
        if old_url.startswith("sqlite"):
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
    assert upgrade(old_url) == (old.stem, VERSION)
    assert read(old_url) == known(old)


@pytest.mark.parametrize("old", FILES[:1], indirect=True, ids=["0001"])
def test_of_two_upgrades_at_once_one_does_it(old_url: str, old: Path) -> None:
    command = [sys.executable, "-c", AT_A_SIGN, old_url]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
    ):
        for process in (one, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = sorted(process.communicate()[0] for process in (one, other))
    assert said == [f"{old.stem} {VERSION}\n", f"{VERSION} {VERSION}\n"]
    assert read(old_url) == known(old)


@pytest.mark.parametrize("old", FILES[:1], indirect=True, ids=["0001"])
def test_the_tables_of_optuna_beside_ours_are_not_touched(old_url: str, old: Path) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(old_url)
    optuna.create_study(storage=storage, study_name="theirs").optimize(lambda t: t.suggest_float("x", 0, 1), 3)
    with connected(old_url) as connection:
        before = described(connection)
        theirs = connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert upgrade(old_url) == (old.stem, VERSION)
    assert check(old_url) == []
    with connected(old_url) as connection:
        after = described(connection)
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == theirs
    kept = {name for name in before if not name.startswith("hpo_")}
    assert len(kept) > 10
    assert {name: before[name] for name in kept} == {
        name: p for name, p in after.items() if name not in Table.metadata.tables
    }
    assert len(optuna.load_study(storage=storage, study_name="theirs").trials) == 3
    storage.remove_session()
    storage.engine.dispose()
    assert read(old_url) == known(old)
