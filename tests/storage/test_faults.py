"""Clocks that jump, runs that are taken for dead, names that come back, trials that are lost again and again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import instant
import numpy as np
import pytest
from entries import ARM, FREE, claimed, outcome, proposal
from sqlalchemy import select, update

from hpo import study as loop
from hpo.failures import BadStorage
from hpo.spec import Study
from hpo.storage import leases, upkeep
from hpo.storage.claims import Claim
from hpo.storage.desk import Desk, TakenOver
from hpo.storage.leases import USUAL, Lease, LeaseLost, Watch
from hpo.storage.ledger import Ledger
from hpo.storage.tables import EventRow, LeaseRow
from hpo.task import Task

HOUR, LOOK = 3600.0, 1.0

HOLD = """
import sys
from entries import claimed
from hpo.storage.ledger import Ledger

with Ledger.open(sys.argv[1]) as ledger, ledger.attend("digits", 1, "gpu-3") as lease:
    claimed(ledger, lease, 0)
    print("claimed", flush=True)
    sys.stdin.read()
"""


class Far:
    """A run on another machine, of which only the beats are seen, and this run, which looks.

    `own` is this run's clock, `database` the database's.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.own, self.database = 0.0, 1e9
        self._ledger = ledger
        self._watch = Watch(USUAL, lambda: self.own)
        self._lease = elsewhere(ledger, "far")
        self._mine = ledger._attend("digits", 1, "near")
        self.claim = claimed(ledger, self._lease, 0)
        self.beats()

    def passes(self, seconds: float) -> None:
        self.own += seconds
        self.database += seconds

    def beats(self) -> None:
        with self._ledger._database.write() as session:
            assert leases.beat(session, self._lease, self.database)

    def lives_through(self, seconds: float) -> bool:
        """While this run looks every so often."""
        for _ in range(round(seconds / LOOK)):
            self.passes(LOOK)
            lives = self.lives()
        return lives

    def lives(self) -> bool:
        """As this run sees it now."""
        with self._ledger._database.write() as session:
            leases.bury(session, self._mine, self._watch, self.database)
            return self._lease.token in {row.id for row in leases.leases(session, self._mine.study_id)}


def elsewhere(ledger: Ledger, worker: str) -> Lease:
    """The lease of a run on another machine: whether that still runs cannot be seen from here."""
    lease = ledger._attend("digits", 1, worker)
    with ledger._database.write() as session:
        session.execute(update(LeaseRow).where(LeaseRow.id == lease.token).values(host="elsewhere"))
    return lease


def happened(ledger: Ledger) -> list[str]:
    """To trials."""
    with ledger._database.read() as session:
        noted = select(EventRow.kind).where(EventRow.trial_id.is_not(None))
        return list(session.scalars(noted.order_by(EventRow.id)))


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_clock_that_jumps_ends_no_lease_of_a_run_that_beats(begun: Ledger, jump: float) -> None:
    far = Far(begun)
    for beat in range(8):
        assert far.lives()
        far.database += jump if beat == 4 else 0.0
        assert far.lives()
        far.passes(0.99 * USUAL.beat)
        assert far.lives()
        far.beats()
    assert happened(begun) == []


def test_a_silent_run_is_given_up_after_its_lease(begun: Ledger) -> None:
    far = Far(begun)
    assert far.lives_through(USUAL.lease)
    assert not far.lives_through(LOOK)
    assert happened(begun) == ["lost"]


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_run_that_looks_old_is_watched_for_two_beats_first(begun: Ledger, jump: float) -> None:
    far = Far(begun)
    far.database += jump
    assert far.lives()
    assert far.lives_through(2 * USUAL.beat - LOOK)
    assert not far.lives_through(LOOK)


def test_a_run_that_could_not_look_watches_anew(begun: Ledger) -> None:
    """Stopped for an hour, say: the other could beat meanwhile, or could not, and will now."""
    far = Far(begun)
    assert far.lives()
    far.passes(HOUR)
    assert far.lives()
    assert far.lives_through(2 * USUAL.beat - LOOK)
    far.beats()
    assert far.lives_through(USUAL.lease)
    assert not far.lives_through(LOOK)


def test_what_a_run_that_was_given_up_brings_is_refused_and_noted(begun: Ledger) -> None:
    far = Far(begun)
    late = far.claim
    assert begun.save(late, {"kept/x": np.ones(3)})
    assert far.lives()
    assert not far.lives_through(USUAL.lease + LOOK)
    found = begun.take_up(far._mine, [ARM])
    assert found is not None
    assert found.claim == Claim(far._mine, ARM, late.trial_id, 0, saved=True)
    assert not begun.save(late, {"kept/x": np.zeros(3)})
    assert not begun.close_trial(late, outcome(9.0))
    with pytest.raises(LeaseLost, match=r"this run \(far\) was not heard of"):
        begun.claim(late.lease, ARM, proposal(1), 0.0, FREE)
    with pytest.raises(LeaseLost, match=r"this run \(far\) was not heard of"):
        begun.take_up(late.lease, [ARM])
    with Desk(begun.url, late) as desk, pytest.raises(TakenOver, match=f"trial 0 of {ARM} was taken over"):
        desk.save({}, ())
    saved = begun.saved(found.claim)
    assert saved is not None
    assert saved["kept/x"].tolist() == [1.0, 1.0, 1.0]
    assert begun.close_trial(found.claim, outcome(1.0))
    assert not begun.close_trial(late, outcome(9.0))
    assert happened(begun) == ["lost", "refused", "refused"]
    assert begun.standing("digits")[ARM].cost.trainings == 1
    begun._retire(far._mine)
    assert upkeep.check(begun.url) == []


@pytest.mark.parametrize("asleep", [0.0, 1.1 * loop.LOOK])
def test_a_run_that_was_given_up_learns_it_and_goes_on(ledger: Ledger, asleep: float) -> None:
    study = instant.instant_study(5)
    executed = []

    def told(task: Task, desk: Desk) -> None:
        executed.append(task.proposal.number)
        if len(executed) == 2:
            with ledger.attend("small", 1, "thief") as lease:  # in the same process: the first lease ends
                found = ledger.take_up(lease, [task.arm.label])
                assert found is not None
                assert ledger.close_trial(found.claim, instant.outcome(task))
            time.sleep(asleep)  # so that it looks around before it wants anything

    instant.run(ledger, study, told)
    assert executed == [0, 1, 2, 3, 4]
    assert happened(ledger) == ["lost", "refused"]
    assert upkeep.check(ledger.url) == []


@pytest.mark.parametrize("machine", ["this", "another"])
def test_a_worker_that_comes_back_has_its_trial_at_once(begun: Ledger, machine: str) -> None:
    lease = begun._attend("digits", 1, "gpu-3") if machine == "this" else elsewhere(begun, "gpu-3")
    trial = claimed(begun, lease, 0).trial_id
    other = elsewhere(begun, "gpu-4")
    claimed(begun, other, 1)
    with begun.attend("digits", 1, "gpu-3") as back:
        found = begun.take_up(back, [ARM])
        assert found is not None
        assert found.claim.trial_id == trial
        assert begun.take_up(back, [ARM], [trial]) is None, "the other one's is not free"


def test_a_name_that_a_live_process_has_is_refused(begun: Ledger) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, begun.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parent)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"claimed\n"
        said = f"is being run by process {process.pid} as worker 'gpu-3': give this one another --worker"
        with pytest.raises(BadStorage, match=said):
            begun._attend("digits", 1, "gpu-3")
        with begun.attend("digits", 1, "gpu-4") as lease:
            assert begun.take_up(lease, [ARM]) is None
        process.kill()
    with begun.attend("digits", 1, "gpu-3") as lease:
        assert begun.take_up(lease, [ARM]) is not None
    assert happened(begun) == ["lost", "interrupted"]


@pytest.mark.parametrize(("losses", "saved_after", "given_up"), [(5, 0, False), (6, 0, True), (8, 3, False)])
def test_a_trial_that_loses_every_run_is_given_up(
    ledger: Ledger, losses: int, saved_after: int, given_up: bool
) -> None:
    study: Study = instant.instant_study(2)
    ledger.begin(study, {})
    [arm] = study.arms()
    claim = ledger.claim(ledger._attend("small", 1, None), arm.label, instant.rate(0.1), 0.5, FREE)
    for loss in range(1, losses):
        found = ledger.take_up(
            ledger._attend("small", 1, None), [arm.label]
        )  # the one before is of this process too: lost
        assert found is not None
        claim = found.claim
        if loss == saved_after:
            assert ledger.save(claim, {"kept/x": np.ones(1)})
    executed = []
    instant.run(ledger, study, lambda task, desk: executed.append((task.proposal.number, desk.claim.saved)))
    assert executed == ([] if given_up else [(0, saved_after > 0)]) + [(1, False)]
    first = ledger.trials("small", arm.label)[0].outcome
    assert first is not None
    if given_up:
        assert (first.state, first.failure) == (
            "failed", f"its run was lost {losses} times on this trial (killed, or out of memory)",
        )  # fmt: skip
        assert (first.cost.trainings, first.cost.gradient_evaluations) == (1, instant.COST.gradient_evaluations)
    assert first.usable is not given_up
    assert happened(ledger) == ["lost"] * losses
    assert upkeep.check(ledger.url) == []
