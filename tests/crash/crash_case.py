"""One run hit at a named point, resumed until it ends, and compared with an unbroken one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import studies_small
import yaml
from sqlalchemy import create_engine, func, select

from hpo import preparation
from hpo import study as loop
from hpo.failures import HpoError
from hpo.progress import Quiet
from hpo.spec import Study
from hpo.storage import upkeep
from hpo.storage.ledger import Ledger
from hpo.storage.tables import ArmRow, CheckpointRow, EventRow, LeaseRow, TrialRow

STEPS, TRAININGS = 12, 3
METHODS = [
    {"name": "drmad", "krylov": 4, "knots": 3},
    {"name": "exact"},
    {"name": "online"},
    {"name": "tpe", "per": "layer", "startup": 2},
    {"name": "cmaes", "per": "layer"},
    {"name": "skopt-et", "per": "global", "startup": 2},
]
WORKERS = {"serial": 1, "processes": 2}
PATIENCE = 600.0

Essence = dict[tuple[str, int], Any]


class Case(NamedTuple):
    """The run, or with `worker` the worker, gets `signal` when the point is reached the `nth` time."""

    point: str
    signal: str
    nth: int
    executor: str
    worker: bool = False

    def __str__(self) -> str:
        return f"{self.point} {self.signal} {self.nth} {self.executor}{' worker' if self.worker else ''}"


class Verdict(NamedTuple):
    """What the fault did: trials, and what else was wrong."""

    injected: bool
    lost: int
    twice: int
    differing: int
    faults: list[str]


def small_study(executor: str) -> Study:
    """Its arms are more than its workers, so its trials do not depend on who does them."""
    return studies_small.study(
        methods=METHODS,
        seeds=[0],
        budget={"trainings": TRAININGS},
        training={"solver": "sgd", "steps": STEPS, "batch_size": 50},
        resources={"workers": WORKERS[executor], "checkpoint": 0},
        execution=executor,
    )


def unbroken(folder: Path) -> Essence:
    """The trials of a run that nothing happens to."""
    study = small_study("serial")
    with Ledger.open(f"sqlite:///{folder}/unbroken.db") as ledger, preparation.prepared(study, None) as ready:
        loop.run(ready, ledger, Quiet(), {})
        return studies_small.essence(ledger, study.name)


def strike(case: Case, storage: str, folder: Path, expected: Essence) -> Verdict:
    """Real processes, one after another."""
    file, tally = folder / "study.yaml", folder / "tally"
    file.write_text(yaml.safe_dump(small_study(case.executor).canonical()))
    if case.point == "resuming":  # there must be something to take up
        before = Case("mid-training", "SIGKILL", 31, case.executor)
        _hit(before, _again(storage, file), storage, folder / "before")
    code, said = _hit(case, _again(storage, file), storage, tally)
    injected = tally.exists() and tally.stat().st_size >= case.nth
    faults = [f"the process ended with {code}"] * (injected and code != _code(case))
    faults += ["it ended with a traceback"] * ("Traceback" in said)
    for _ in range(3):
        program = [sys.executable, "-c", "from hpo.cli import main; main()"]
        code, said = _ended([*program, *_again(storage, file), "--quiet", "--storage", storage])
        if code == 0:
            break
    else:
        faults.append(f"it is not resumed: {said}")
    return _judged(injected, storage, expected, faults)


def _hit(case: Case, command: list[str], storage: str, tally: Path) -> tuple[int, str]:
    program = [sys.executable, str(Path(__file__).with_name("crash_points.py"))]
    fault = [case.point, case.signal, str(case.nth), str(tally), *(["--worker"] if case.worker else [])]
    return _ended([*program, *fault, "--", *command, "--quiet", "--storage", storage])


def _ended(command: list[str]) -> tuple[int, str]:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return 124, f"it did not end within {PATIENCE:.0f} s"
    return ended.returncode, ended.stderr


def _code(case: Case) -> int:
    if case.worker:
        return 0  # the run lives on
    return -signal.SIGKILL if case.signal == "SIGKILL" else 130


def _again(storage: str, file: Path) -> list[str]:
    """`hpo resume`, or `hpo run` while the study is not stored."""
    try:
        with Ledger.open(storage, create=False) as ledger:
            return ["resume", ledger.study("small").spec.name]
    except HpoError:
        return ["run", str(file)]


def _judged(injected: bool, storage: str, expected: Essence, faults: list[str]) -> Verdict:
    with Ledger.open(storage) as ledger:
        found = studies_small.essence(ledger, "small")
    lost = [key for key in expected if key not in found or found[key][1] == "running"]
    differing = [key for key in found if key not in lost and found[key] != expected.get(key)]
    engine = create_engine(storage)
    with engine.connect() as connection:
        closed = connection.scalar(select(func.count()).where(TrialRow.state != "running")) or 0
        trainings = connection.scalar(select(func.sum(ArmRow.trainings))) or 0
        refused = connection.scalar(select(func.count()).where(EventRow.kind == "refused")) or 0
        for kind in (LeaseRow, CheckpointRow):
            left = connection.scalar(select(func.count()).select_from(kind))
            faults += [f"{left} rows are left in {kind.__tablename__}"] * bool(left)
    engine.dispose()
    faults += upkeep.check(storage)
    return Verdict(injected, len(lost), max(trainings - closed, 0) + refused, len(differing), faults)
