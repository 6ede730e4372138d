"""Several runs of one study with the same loggers, and several processes with the same file."""

from __future__ import annotations

import csv
import multiprocessing
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies_small
from test_loggers import KINDS, pytestmark  # noqa: F401  pytest reads the mark

from hpo import study_file
from hpo.loggers.csv_file import CSV
from hpo.loggers.logger import Key, Logged, Logging
from hpo.storage.claims import Terms
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord
from hpo.trial import Cost, Outcome, Proposal, Trial

FREE = Terms("trainings", 1e9, 1.0, 99)


def test_two_runs_at_once_write_every_trial_once(tmp_path: Path) -> None:
    study = studies_small.study(budget={"trainings": 4}, execution="serial")
    (tmp_path / "study.yaml").write_text(study_file.text(study))
    logs = [word for address, _ in KINDS.values() for word in ("--log", address.format(tmp_path))]
    hpo = [sys.executable, "-c", "from hpo.cli import main; main()"]
    command = [*hpo, "run", str(tmp_path / "study.yaml"), "--storage", f"sqlite:///{tmp_path}/hpo.db", *logs]
    runs = [
        subprocess.Popen([*command, "--worker", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name in "ab"
    ]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert not any("told no more" in text for text in said), said
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        expected = {
            (label, record.number): record.validation_loss
            for label, records in ledger.figures("small").items()
            for record in records
        }
        leases = {record.lease for records in ledger.figures("small").values() for record in records}
    assert len(leases) == 2  # both did something
    for _, read in KINDS.values():
        assert read(tmp_path) == pytest.approx(expected, rel=1e-6)


class Kept:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Key] = []

    def begin(self, study: Logged) -> list[Key]:
        return list(self.told)

    def log(self, arm: ArmRecord, trial: Trial, closed: datetime) -> None:
        self.told.append((arm.label, trial.number))

    def end(self) -> None: ...


class Arm:
    """What a watcher reads of an arm."""

    def __init__(self, label: str) -> None:
        self.label = label


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        ledger.begin(studies_small.study(methods=["random"], seeds=1), {})
        yield ledger


STUDY: Any = studies_small.study(methods=["random"], seeds=1)
ARM: Any = Arm("random/0")


def proposal(number: int) -> Proposal:
    return Proposal(number, {"l2": np.array([1e-3])})


def closed(number: int) -> Outcome:
    return Outcome("complete", 0.1, 0.1 + number, cost=Cost(1, 1.0, 1.0))


def test_a_trial_that_another_run_took_over_is_that_runs_to_log(ledger: Ledger) -> None:
    kept = Kept()
    watcher = Logging(kept, ledger)
    with ledger.attend("small", 1, "a") as lease:
        watcher.begun(STUDY, [])
        given = [proposal(0), proposal(1)]
        for each in given:
            claim = ledger.claim(lease, "random/0", each, 0.0, FREE)
            assert claim is not None
            assert ledger.close_trial(claim, closed(each.number))
            watcher.opened(ARM, each)
        taken, own = ledger.trials("small", "random/0")
        watcher.closed(ARM, taken)  # learnt from the ledger
        assert kept.told == []
        watcher.closed(ARM, Trial(given[1], own.outcome))
        watcher.closed(ARM, own)
    watcher.stop()
    assert kept.told == [("random/0", 1)]


def test_what_an_interruption_left_unsaid_is_written_as_the_run_stops(ledger: Ledger) -> None:
    kept = Kept()
    watcher = Logging(kept, ledger)
    with ledger.attend("small", 1, "a") as lease:
        watcher.begun(STUDY, [])
        for number in range(3):
            given = proposal(number)
            claim = ledger.claim(lease, "random/0", given, 0.0, FREE)
            assert claim is not None
            watcher.opened(ARM, given)
            if number < 2:
                assert ledger.close_trial(claim, closed(number))
    watcher.stop()
    assert kept.told == [("random/0", 0), ("random/0", 1)]


def test_what_runs_before_left_out_is_written_by_the_oldest_run(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.attend("small", 1, "before") as lease:
        claim = ledger.claim(lease, "random/0", proposal(0), 0.0, FREE)
        assert claim is not None
        assert ledger.close_trial(claim, closed(0))
    elder = (
        "import sys; from hpo.storage.ledger import Ledger\n"
        f"with Ledger.open('sqlite:///{tmp_path}/hpo.db') as ledger, ledger.attend('small', 1, 'elder'):\n"
        "    print('here', flush=True)\n"
        "    sys.stdin.read()"
    )
    kept = Kept()
    with subprocess.Popen(
        [sys.executable, "-c", elder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        with ledger.attend("small", 1, "younger"):
            Logging(kept, ledger).begun(STUDY, [])
            assert kept.told == []
        assert list(ledger.under_way("small").values()) == [False]
        process.communicate()
    with ledger.attend("small", 1, "oldest"):
        Logging(kept, ledger).begun(STUDY, [])
    assert kept.told == [("random/0", 0)]


def written(path: Path, study: Logged, arm: int, trial: Trial, barrier: Any) -> None:
    made = CSV(str(path))
    barrier.wait()
    made.begin(study)
    for number in range(300):
        made.log(study.arms[arm], Trial(Proposal(number, trial.proposal.values), trial.outcome), datetime.now(UTC))
    made.end()


def test_no_line_is_lost_or_torn_where_several_processes_write(ledger: Ledger, tmp_path: Path) -> None:
    labels = [f"random/{i}" for i in range(3)]
    arms = [ledger.arms("small")[0]._replace(label=label, space=[{"name": "l2"}]) for label in labels]
    study = Logged("small", "2026-01-01T00:00:00+00:00", arms)
    trial = Trial(proposal(0), closed(0))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(arms))
    path = tmp_path / "trials.csv"
    jobs = [context.Process(target=written, args=(path, study, i, trial, barrier)) for i in range(len(arms))]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * len(jobs)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    found = [(row["arm"], int(row["trial"])) for row in rows]
    assert sorted(found) == [(label, number) for label in labels for number in range(300)]
    assert {len([v for v in row.values() if v is not None]) for row in rows} == {len(rows[0])}
    assert path.read_text().count("validation_loss") == 1
