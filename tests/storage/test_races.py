"""Two transactions at the same moment, on a server where they overlap (on SQLite one waits for the other)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from entries import ARM, FREE, claimed, proposal
from sqlalchemy import select, text

from hpo.storage import claims, leases, reading, upkeep
from hpo.storage.engine import Database
from hpo.storage.leases import Lease, LeaseLost
from hpo.storage.ledger import Ledger
from hpo.storage.tables import EventRow, LeaseRow, TrialRow

pytestmark = pytest.mark.parametrize("url", ["postgresql"], indirect=True)

PATIENCE = 60.0


def meanwhile(database: Database, other: Callable[[], object]) -> threading.Thread:
    """Starts the other in a thread; returns when it waits for a lock of this one's, or has ended."""
    thread = threading.Thread(target=other)
    thread.start()
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%hpo_%'")
    until = time.monotonic() + PATIENCE
    while thread.is_alive() and time.monotonic() < until:
        with database.read() as session:
            if session.scalar(waiting):
                break
        time.sleep(0.01)
    return thread


@pytest.fixture
def lease(begun: Ledger) -> Lease:
    return begun._attend("digits", 1, "far")


def test_two_who_find_a_run_dead_note_it_once(begun: Ledger, lease: Lease) -> None:
    claimed(begun, lease, 0)
    with begun._database.write() as session:
        leases.end(session, lease.token, "lost")
        other = meanwhile(begun._database, lambda: begun._retire(lease))
    other.join()
    with begun._database.read() as session:
        noted = select(EventRow.kind).where(EventRow.trial_id.is_not(None))
        assert session.scalars(noted).all() == ["lost"]


def test_a_trial_claimed_while_its_run_is_given_up_is_free_afterwards(begun: Ledger, lease: Lease) -> None:
    with begun._database.write() as session:
        arm = reading.arm_row(session, "digits", ARM)
        assert claims.claim(session, lease, arm, proposal(0), 0.0, FREE) is not None
        other = meanwhile(begun._database, lambda: begun._retire(lease))
    other.join()
    with begun._database.read() as session:
        assert session.scalars(select(LeaseRow)).all() == []
        assert session.scalars(select(TrialRow.lease)).all() == [None]
    with begun.attend("digits", 1) as another:
        assert begun.take_up(another, [ARM]) is not None
    assert upkeep.check(begun.url) == []


def test_a_run_that_was_just_given_up_claims_nothing(begun: Ledger, lease: Lease) -> None:
    found: list[object] = []

    def claim() -> None:
        try:
            found.append(begun.claim(lease, ARM, proposal(0), 0.0, FREE))
        except LeaseLost as lost:
            found.append(type(lost))

    with begun._database.write() as session:
        leases.end(session, lease.token, "lost")
        other = meanwhile(begun._database, claim)
    other.join()
    assert found == [LeaseLost]
    assert begun.trials("digits", ARM) == []


def test_a_beat_does_not_wait_for_a_claim(begun: Ledger, lease: Lease) -> None:
    with begun._database.write() as session:
        leases.check(session, lease)
        assert begun._beat(lease)
