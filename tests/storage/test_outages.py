"""A database that goes away while a study runs: the run waits for it, goes on, and loses nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import studies_small
import yaml
from postgresql_cluster import PASSWORD, Cluster
from proxy import Proxy
from psycopg import sql
from sqlalchemy import make_url

from hpo import preparation
from hpo import study as loop
from hpo.progress import Quiet
from hpo.spec import Study
from hpo.storage import upkeep
from hpo.storage.ledger import Ledger
from hpo.storage.tables import Table

AWAY, PATIENCE = 3.0, 300.0

HPO = "from hpo.cli import main; main()"

IMPATIENT = """
from hpo.storage.leases import Times
from hpo.storage.ledger import Ledger

Ledger.open.__func__.__defaults__ = True, Times(patience=1.0)
"""


def small_study(workers: int) -> Study:
    """Long enough that the database can go and come in the middle of it."""
    return studies_small.study(
        training={"solver": "sgd", "steps": 150, "batch_size": 50}, resources={"workers": workers, "checkpoint": 0}
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> object:
    study = small_study(1)
    storage = f"sqlite:///{tmp_path_factory.mktemp('unbroken')}/hpo.db"
    with Ledger.open(storage) as ledger, preparation.prepared(study, None) as ready:
        loop.run(ready, ledger, Quiet(), {})
        return studies_small.essence(ledger, "small")


def started(url: str, command: list[str], program: str = HPO, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *command, "--storage", url],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(folder: Path, workers: int) -> str:
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(small_study(workers).canonical()))
    return str(file)


def closed(cluster: Cluster) -> int:
    """How many trials are, by a connection of its own."""
    with closing(psycopg.connect(cluster.url)) as connection:
        if connection.execute("SELECT to_regclass('hpo_trial')").fetchone() == (None,):
            return 0
        found = connection.execute("SELECT count(*) FROM hpo_trial WHERE state <> 'running'").fetchone()
        return 0 if found is None else found[0]


def wait_for(process: subprocess.Popen[str], cluster: Cluster, trials: int) -> None:
    """Until so many are closed."""
    while closed(cluster) < trials:
        assert process.poll() is None, "it should still run"
        time.sleep(0.05)


def everything(cluster: Cluster) -> str:
    """Every row of every table, as text."""
    with closing(psycopg.connect(cluster.url)) as connection:
        asked = [sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name)) for name in Table.metadata.tables]
        rows = [connection.execute(question).fetchall() for question in asked]
    assert sum(map(len, rows)) > 100
    return repr(rows)


def ended(process: subprocess.Popen[str], code: int) -> str:
    """What it said on stderr: explanations only, and nowhere a password."""
    said, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, error
    assert PASSWORD not in said + error
    assert all(line.startswith("hpo: ") for line in error.splitlines()), error
    return error


def whole(cluster: Cluster, expected: object) -> None:
    with Ledger.open(cluster.url, create=False) as ledger:
        assert studies_small.essence(ledger, "small") == expected
    assert upkeep.check(cluster.url) == []
    assert PASSWORD not in everything(cluster)


@pytest.mark.parametrize(("gone", "workers"), [(Cluster.stop, 1), (Cluster.kill, 2)])
def test_a_run_waits_for_a_server_that_comes_back(
    cluster: Cluster, gone: Callable[[Cluster], None], workers: int, tmp_path: Path, expected: object
) -> None:
    run = started(cluster.url, ["run", written(tmp_path, workers)])
    wait_for(run, cluster, 3)
    gone(cluster)
    time.sleep(AWAY)
    cluster.start()
    assert "trying again for" in ended(run, 0)
    whole(cluster, expected)


def test_a_run_bears_a_network_that_fails(cluster: Cluster, tmp_path: Path, expected: object) -> None:
    with Proxy(cluster.port) as proxy:
        url = make_url(cluster.url).set(port=proxy.port).render_as_string(hide_password=False)
        run = started(url, ["run", written(tmp_path, 2)])
        wait_for(run, cluster, 2)
        proxy.cut()
        time.sleep(AWAY)
        proxy.mend()
        wait_for(run, cluster, closed(cluster) + 3)
        proxy.freeze()  # and all that was on its way arrives in the end
        time.sleep(AWAY)
        proxy.mend()
        wait_for(run, cluster, closed(cluster) + 3)
        proxy.freeze()  # and it never does
        time.sleep(AWAY)
        proxy.cut()
        time.sleep(0.5)
        proxy.mend()
        assert "trying again for" in ended(run, 0)
    whole(cluster, expected)


def test_a_server_that_stays_away_ends_the_run_and_a_resume_finishes(
    cluster: Cluster, tmp_path: Path, expected: object
) -> None:
    run = started(cluster.url, ["run", written(tmp_path, 1)], IMPATIENT + HPO)
    wait_for(run, cluster, 3)
    cluster.stop()
    where = f"postgresql://hpo:***@127.0.0.1:{cluster.port}/postgres"
    *_, last = ended(run, 2).splitlines()
    assert last.startswith(f"hpo: {where}: no server answers there: ")
    ended(started(cluster.url, ["list"]), 2)
    cluster.start()
    ended(started(cluster.url, ["resume", "small"]), 0)
    whole(cluster, expected)
    reports = ["list", "--json"], ["show", "small", "--json"], ["compare", "small"], ["export", "small", "-o", "best"]
    for command in reports:
        ended(started(cluster.url, command, cwd=tmp_path), 0)
    files = list((tmp_path / "best").iterdir())
    assert files
    assert not any(PASSWORD.encode() in file.read_bytes() for file in files)
