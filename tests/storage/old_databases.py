"""Databases that older versions of hpo made, kept in `old/`, beside what those versions read from them.

To keep one of the present layout before it changes, with the hpo of that commit:
    python tests/storage/old_databases.py tests/storage/old/0003.db
A study that is finished and one whose process was killed: a drmad trial of it is running.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from hpo.storage.ledger import Ledger

FOLDER = Path(__file__).parent / "old"
FILES = sorted(FOLDER.glob("*.db"))

STUDY = """
name: {name}
problem:
  data: digits
  split: {{train: 60, validation: 60}}
  model: {{mlp: [4], activation: relu}}
training: {{solver: sgd, steps: {steps}, batch_size: 20}}
space:
  l2: {{per: neuron, low: 1e-6, high: 1.0, default: 1e-3}}
  learning_rate: {{per: layer, low: 3e-3, high: 1.0, default: 0.1}}
methods:
  - {{name: drmad, krylov: 4, knots: 3}}
  - {{name: random, per: global}}
budget: {{trainings: 4}}
seeds: 1
"""


def essence(ledger: Ledger, study: str) -> dict[str, Any]:
    """Everything of a study, floats and arrays to the bit, as plain JSON."""
    arms = {}
    for arm in ledger.arms(study):
        trials = ledger.trials(study, arm.label)
        arms[arm.label] = {
            "arm": [arm.title, arm.method, arm.solver, arm.per, arm.seed, arm.state, arm.settings, arm.space],
            "spent": _cost(_spent(ledger, study, arm.label)),
            "trials": [_trial(trial) for trial in trials],
            "weights": {t.number: _hashed(ledger.weights(study, arm.label, t.number)) for t in trials},
        }
    return json.loads(json.dumps(arms))


def _spent(ledger: Any, study: str, arm: str) -> Any:
    return ledger.standing(study)[arm].cost if hasattr(ledger, "standing") else ledger.spent(study, arm)


def _trial(trial: Any) -> dict[str, Any]:
    found = {"number": trial.number, "state": trial.state, "derivative": trial.proposal.derivative}
    found["values"] = _hashed(trial.proposal.values)
    if (outcome := trial.outcome) is not None:
        losses = (outcome.validation_loss, outcome.test_loss, outcome.test_accuracy)
        found["losses"] = [None if loss is None else float(loss).hex() for loss in losses]
        found |= {"cost": _cost(outcome.cost), "failure": outcome.failure, "curve": _hashed({"": outcome.curve})}
        found |= {"hypergradient": _hashed(outcome.hypergradient), "ends": _hashed(getattr(outcome, "ends", None))}
        found["report"] = {name: float(x).hex() for name, x in getattr(outcome, "report", {}).items()}
    return found


def _cost(cost: Any) -> list[Any]:
    return [int(cost.trainings), float(cost.gradient_evaluations).hex(), round(float(cost.seconds), 9)]


def _hashed(arrays: Any) -> dict[str, str] | None:
    if arrays is None:
        return None
    return {
        name: f"{a.dtype.str} {list(a.shape)} {hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:16]}"
        for name, a in arrays.items()
    }


def make(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "hpo.db"
        for name, steps in (("finished", 20), ("killed", 200)):
            file = Path(folder) / f"{name}.yaml"
            file.write_text(STUDY.format(name=name, steps=steps))
            command = [sys.executable, "-c", "from hpo.cli import main; main()", "run", str(file)]
            with subprocess.Popen([*command, "--storage", f"sqlite:///{database}"], cwd=folder) as process:
                if name == "killed":
                    _kill(process, database)
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            held = json.dumps({"host": "elsewhere", "pid": 4242, "started": 4242})
            if "holder" in (row[1] for row in connection.execute("PRAGMA table_info(hpo_study)")):
                connection.execute("UPDATE hpo_study SET holder = ? WHERE holder IS NOT NULL", (held,))
            connection.execute("VACUUM")
        with Ledger.open(f"sqlite:///{database}") as ledger:
            known = {study.name: essence(ledger, study.name) for study in ledger.studies()}
        path.with_suffix(".json").write_text(json.dumps(known, indent=1) + "\n")
        shutil.copy(database, path)


def _kill(process: subprocess.Popen[bytes], database: Path) -> None:
    """kill -9 while the third trial of drmad runs."""
    running = (
        "SELECT count(*) FROM hpo_trial JOIN hpo_arm ON hpo_arm.id = arm_id JOIN hpo_study ON hpo_study.id = study_id "
        "WHERE name = 'killed' AND method = 'drmad' AND number = 2 AND hpo_trial.state = 'running'"
    )
    while True:
        with closing(sqlite3.connect(database)) as connection:
            if connection.execute(running).fetchone()[0]:
                process.send_signal(signal.SIGKILL)
                return
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
