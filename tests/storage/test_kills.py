"""kill -9 of a process in the middle of writing: what is there is whole, and the study goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from entries import FREE, proposal, taken_up
from sqlalchemy import select, text

from hpo.spec import Study
from hpo.storage.ledger import Ledger
from hpo.storage.tables import StudyRow
from hpo.trial import Cost, Outcome

SIZE = 50_000

WRITE = """
import sys
import numpy as np
from hpo.storage.claims import Terms
from hpo.storage.ledger import Ledger
from hpo.trial import Cost, Outcome, Proposal

size, first = int(sys.argv[2]), int(sys.argv[3])
with Ledger.open(sys.argv[1]) as ledger:
    terms, lease = Terms("trainings", 1e9, 1.0, 9), ledger._attend("digits", 1, None)
    found = ledger.take_up(lease, ["drmad/0"])
    for number in range(first, 10_000):
        numbers = np.random.default_rng(number).uniform(size=(2, size))
        proposal = Proposal(number, {"l2": numbers[0]}, "drmad")
        claim = found.claim if found else ledger.claim(lease, "drmad/0", proposal, 0.0, terms)
        found = None
        print(number, flush=True)
        outcome = Outcome(
            "complete", 1 / (number + 1), 0.0, cost=Cost(1, 1.0, 0.0),
            hypergradient={"l2": numbers[1]}, weights={"w": numbers[0]},
        )
        ledger.close_trial(claim, outcome)
"""


def killed_after(url: str, first: int, trials: int) -> None:
    """A real process writes from trial `first` on, and is killed while it writes the trial it announced last."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, url, str(SIZE), str(first)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for _ in range(trials):
            assert process.stdout.readline()
        process.kill()
    assert process.returncode == -9


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_no_half_trial_is_left(url: str, study: Study, tmp_path: Path) -> None:
    with Ledger.open(url) as ledger:
        ledger.begin(study, {})
        done = 0
        for trials in (1, 3, 2):
            killed_after(url, done, trials)
            found = ledger.trials("digits", "drmad/0")
            closed = [t for t in found if t.outcome is not None]
            assert len(closed) >= done + trials - 1
            assert len(found) - len(closed) in (0, 1)
            assert [t.number for t in found] == list(range(len(found)))
            for trial in found:
                expected = np.random.default_rng(trial.number).uniform(size=(2, SIZE))
                assert np.array_equal(trial.proposal.values["l2"], expected[0])
                if trial.outcome is not None:
                    assert trial.outcome.hypergradient is not None
                    assert np.array_equal(trial.outcome.hypergradient["l2"], expected[1])
            standing = ledger.standing("digits")["drmad/0"]
            assert standing == (len(found), len(found) - len(closed), Cost(len(closed), float(len(closed)), 0.0))
            kept = [t.number for t in found if ledger.weights("digits", "drmad/0", t.number) is not None]
            assert kept == [t.number for t in closed][-1:]
            done = len(closed)
        with ledger.attend("digits", 1) as lease:  # the last run is dead
            found = taken_up(ledger, lease)
            claim = found.claim if found else ledger.claim(lease, "drmad/0", proposal(done), 0.0, FREE)
            assert claim is not None
            assert ledger.close_trial(claim, Outcome("failed", np.nan, np.nan))
    connection = sqlite3.connect(tmp_path / "hpo.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_transaction(ledger: Ledger, study: Study, sent: signal.Signals) -> None:
    """Breaking a transaction off would leave its lock behind, and this process waiting for itself."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ledger._database.write() as session:
            ledger._database.alone(session)
            os.kill(os.getpid(), sent)
            session.execute(text("SELECT 1"))
            session.add(StudyRow(name="kept", spec={}, digest="", versions={}))
    finally:
        signal.signal(signal.SIGTERM, before)
    with ledger._database.read() as session:
        assert session.scalars(select(StudyRow.name)).all() == ["kept"]
    ledger.begin(study, {})
