"""A study killed at any moment and resumed gives, bit for bit, the trials of an unbroken run."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import studies_small
import yaml
from sqlalchemy import select

from hpo import preparation
from hpo import study as loop
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger
from hpo.storage.tables import CheckpointRow, EventRow, TrialRow

METHODS = [
    {"name": "drmad", "krylov": 4},
    {"name": "exact"},
    {"name": "online"},
    {"name": "tpe", "per": "layer", "startup": 2},
    {"name": "cmaes", "per": "layer"},
    {"name": "qmc", "per": "global"},
    {"name": "skopt-et", "per": "global", "startup": 2},
]
KILLS = int(os.environ.get("HPO_KILLS", "3"))
"""HPO_KILLS=10 makes a longer test of it."""

COMMAND = [sys.executable, "-c", "from hpo.cli import main; main()"]


def written(folder, workers, steps):
    """The study, in a file and as it was read."""
    training = {"solver": "sgd", "steps": steps, "batch_size": 50}
    study = studies_small.study(methods=METHODS, seeds=[0], resources={"workers": workers}, training=training)
    (folder / "small.yaml").write_text(yaml.safe_dump(study.canonical()))
    return study


def started(arguments, storage, prefix=()):
    return subprocess.Popen(
        [*prefix, *COMMAND, *arguments, "--storage", storage, "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def closed(path):
    """How many closed trials the database holds; 0 while there is none, or no table in it."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            return database.execute("SELECT count(*) FROM hpo_trial WHERE state != 'running'").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def unbroken(tmp_path, study):
    with Ledger.open(f"sqlite:///{tmp_path}/unbroken.db") as ledger:
        alone = study.model_copy(update={"resources": studies_small.study().resources})
        with preparation.prepared(alone, None) as ready:
            loop.run(ready, ledger, Quiet(), {})
        return studies_small.essence(ledger, study.name)


@pytest.mark.parametrize("workers", [1, 2])
def test_kills_change_nothing(tmp_path, workers):
    study = written(tmp_path, workers, steps=100)
    path, storage = tmp_path / "hpo.db", f"sqlite:///{tmp_path}/hpo.db"
    generator = random.Random(workers)
    command, done = ["run", str(tmp_path / "small.yaml")], 0
    for kill in range(KILLS):
        process = started(command, storage)
        wanted = done + generator.randint(1, 24 // KILLS)
        while process.poll() is None and closed(path) < wanted:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 0.05))
        os.killpg(process.pid, signal.SIGKILL) if kill % 2 else process.kill()
        process.communicate()
        done = closed(path)
        command = ["resume", "small"]
    assert 0 < done < 5 * len(METHODS), "killed in the middle"
    last = started(command, storage)
    _, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    with Ledger.open(storage, create=False) as ledger:
        assert studies_small.essence(ledger, "small") == unbroken(tmp_path, study)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_saves_the_trainings_and_they_go_on(tmp_path, sent, workers):
    training = {"solver": {"name": "sgd", "momentum": 0.9}, "steps": 12000, "batch_size": 50}
    methods = [{"name": "random"}, {"name": "qmc"}]
    study = studies_small.study(
        methods=methods, seeds=[0], resources={"workers": workers}, training=training, budget={"trainings": 2}
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study.canonical()))
    path, storage = tmp_path / "hpo.db", f"sqlite:///{tmp_path}/hpo.db"
    process = started(["run", str(tmp_path / "small.yaml")], storage)
    while process.poll() is None and closed(path) < 1:
        time.sleep(0.02)
    time.sleep(1.5)
    (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (130, "hpo: interrupted; finished trials are kept\n")
    with Ledger.open(storage, create=False) as ledger:
        assert ledger.study("small").runs == 0
        with ledger._database.read() as session:
            running = set(session.scalars(select(TrialRow.id).where(TrialRow.state == "running")))
            assert 1 <= len(running) <= workers
            saved = set(session.scalars(select(CheckpointRow.trial_id)))
            assert saved and saved <= running, "the one that had begun was saved"
            assert set(session.scalars(select(EventRow.kind))) == {"begun", "attended", "interrupted"}
        last = started(["resume", "small"], storage)
        _, error = last.communicate(timeout=300)
        assert last.returncode == 0, error
        assert studies_small.essence(ledger, "small") == unbroken(tmp_path, study)


def test_sigterm_ends_a_run_that_a_script_put_in_the_background(tmp_path):
    """There the shell ignores SIGINT for it, and SIGTERM must not be ignored along with it."""
    written(tmp_path, 1, steps=3000)
    path, storage = tmp_path / "hpo.db", f"sqlite:///{tmp_path}/hpo.db"
    process = started(["run", str(tmp_path / "small.yaml")], storage, ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"])
    while process.poll() is None and closed(path) < 1:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (130, "hpo: interrupted; finished trials are kept\n")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see when a process has a child")
@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_workers_start_is_one_line(tmp_path, sent, group):
    written(tmp_path, 2, steps=100)
    process = started(["run", str(tmp_path / "small.yaml")], f"sqlite:///{tmp_path}/hpo.db")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not children.read_text().split():
        time.sleep(0.01)
    time.sleep(0.2)
    (os.killpg if group else os.kill)(process.pid, sent)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (130, "hpo: interrupted; finished trials are kept\n")
