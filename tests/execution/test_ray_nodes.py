"""A Ray cluster of two nodes: a worker and a whole node are killed in the middle of a training, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import studies_small
import yaml
from ray_nodes import Nodes
from sqlalchemy import func, select

from hpo import preparation
from hpo import study as loop
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger
from hpo.storage.tables import CheckpointRow, EventRow

pytest.importorskip("ray", reason="ray is not installed: pip install 'hpo[ray]'")

COMMAND = [sys.executable, "-c", "from hpo.cli import main; main()"]
TRIALS, PATIENCE = 3, 300.0

COUNTED = """
import os

from torch import nn


class Counted(nn.Module):
    \"\"\"Writes a byte for every forward pass into the file of its process.\"\"\"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.file = os.open(f"passes/{os.getpid()}", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def forward(self, inputs):
        os.write(self.file, b".")
        return self.layer(inputs.flatten(1))
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Its model is a file in the current folder, which is where the run is started and not where the nodes were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "counted.py").write_text(COUNTED)
    (tmp_path / "passes").mkdir()
    made = studies_small.study(
        problem={"data": "digits", "split": {"train": 100, "validation": 200}, "model": "counted:Counted"},
        methods=[{"name": "random"}, {"name": "qmc"}],
        training={"solver": {"name": "sgd", "momentum": 0.9}, "steps": 8000, "batch_size": 50},
        space={"l2": {"low": 1e-6, "high": 1.0}, "learning_rate": {"low": 3e-3, "high": 0.1}},
        seeds=[0],
        budget={"trainings": TRIALS},
        resources={"workers": 2, "checkpoint": 0.2},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(made.canonical()))
    return made


@pytest.fixture(scope="module")
def nodes():
    with Nodes() as started:
        yield started


def passes(folder):
    """Forward passes by process."""
    return {int(file.name): file.stat().st_size for file in (folder / "passes").iterdir()}


def wait_until(happens, process):
    until = time.monotonic() + PATIENCE
    while not happens():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def saved(ledger):
    """How many trials have a checkpoint: they lose it when they end."""
    with ledger._database.read() as session:
        return session.scalar(select(func.count(CheckpointRow.trial_id.distinct())))


def test_a_worker_and_a_node_that_are_killed_lose_nothing(tmp_path, study, nodes):
    storage = f"sqlite:///{tmp_path}/hpo.db"
    command = [*COMMAND, "run", "small.yaml", "--ray", nodes.address, "--storage", storage, "--quiet"]
    with (
        Ledger.open(storage) as ledger,
        subprocess.Popen(command, env=nodes.environment, stderr=subprocess.PIPE, text=True) as run,
    ):
        killed = []
        for node in (0, 1):
            wait_until(lambda: nodes.workers(0) and nodes.workers(1) and saved(ledger) == 2, run)
            before = passes(tmp_path)
            killed += [before[pid] for pid in nodes.workers(node)]
            if node == 0:
                os.kill(nodes.workers(0)[0], signal.SIGKILL)
            else:
                nodes.kill(1)
        _, error = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, error
        found = studies_small.essence(ledger, "small")
        with ledger._database.read() as session:
            kinds = Counter(session.scalars(select(EventRow.kind)))
    assert kinds["crashed"] == 2
    assert len(killed) == 2
    again = passes(tmp_path)
    (tmp_path / "passes").rename(tmp_path / "before")
    (tmp_path / "passes").mkdir()
    with Ledger.open(f"sqlite:///{tmp_path}/unbroken.db") as ledger, preparation.prepared(alone(study), None) as ready:
        loop.run(ready, ledger, Quiet(), {})
        assert found == studies_small.essence(ledger, "small")
    unbroken = sum(passes(tmp_path).values())
    came = sum(count % (unbroken // (2 * TRIALS)) for count in killed)  # of the trainings that were broken off
    assert unbroken <= sum(again.values()) < unbroken + came, "they went on from where they were saved"


def alone(study):
    return study.model_copy(update={"resources": studies_small.study().resources})
