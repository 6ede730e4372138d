"""A commit that came through though its answer did not: the verb is done again, and sees its own work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from entries import ARM, FREE, claimed, left_running, outcome, proposal
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hpo.spec import Study
from hpo.storage import upkeep
from hpo.storage.engine import Unreachable
from hpo.storage.ledger import Ledger
from hpo.storage.tables import ArmRow, LeaseRow, StudyRow


class Deaf:
    """Does not hear that the next write was committed."""

    def __init__(self, ledger: Ledger) -> None:
        self._write = ledger._database.write
        self._armed = False

    @contextmanager
    def write(self) -> Iterator[Session]:
        with self._write() as session:
            yield session
        if self._armed:
            self._armed = False
            raise Unreachable("the connection was cut")

    @contextmanager
    def once(self) -> Iterator[None]:
        self._armed = True
        yield
        assert not self._armed, "nothing was written"


@pytest.fixture
def unheard(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    deaf = Deaf(ledger)
    monkeypatch.setattr(ledger._database, "write", deaf.write)
    yield deaf
    assert upkeep.check(ledger.url) == []


def test_begin_and_attend(ledger: Ledger, study: Study, unheard: Deaf) -> None:
    with unheard.once():
        ledger.begin(study, {})
    with unheard.once():
        lease = ledger._attend("digits", 1, None)
    with ledger._database.read() as session:
        counts = [session.scalar(select(func.count()).select_from(row)) for row in (StudyRow, ArmRow)]
        assert counts == [1, len(study.arms())]
        assert session.scalars(select(LeaseRow.id)).all() == [lease.token]
    with unheard.once():
        ledger._retire(lease)
    with ledger._database.read() as session:
        assert session.scalars(select(LeaseRow.id)).all() == []


def test_claim_save_and_close(begun: Ledger, unheard: Deaf) -> None:
    with begun.attend("digits", 1) as lease:
        with unheard.once():
            claim = begun.claim(lease, ARM, proposal(0), 0.5, FREE)
        assert claim is not None
        with unheard.once():
            assert begun.save(claim, {"kept/x": np.ones(2)})
        with unheard.once():
            assert begun.save(claim, {"kept/y": np.zeros(2)}, ["kept/x"])
        saved = begun.saved(claim)
        assert saved is not None
        assert {name: x.tolist() for name, x in saved.items()} == {"kept/x": [1.0, 1.0], "kept/y": [0.0, 0.0]}
        with unheard.once():
            assert begun.close_trial(claim, outcome(1.0))
        with unheard.once():
            begun.finish("digits", ARM, "complete")
    standing = begun.standing("digits")[ARM]
    assert (standing.next_number, standing.running, standing.cost.trainings) == (1, 0, 1)
    [trial] = begun.trials("digits", ARM)
    assert trial.outcome is not None
    assert trial.outcome.validation_loss == 1.0


def test_take_up(begun: Ledger, unheard: Deaf) -> None:
    """A trial that was taken up twice over would be nobody's, and the study would wait for it for ever."""
    for number in range(2):
        left_running(begun, number)
    with begun.attend("digits", 1) as lease:
        with unheard.once():
            first = begun.take_up(lease, [ARM])
        assert first is not None
        second = begun.take_up(lease, [ARM], [first.claim.trial_id])
        assert second is not None
        assert (first.claim.number, second.claim.number) == (0, 1)
        assert begun.take_up(lease, [ARM], [first.claim.trial_id, second.claim.trial_id]) is None


def test_a_worker_that_died_once_is_counted_once(begun: Ledger, unheard: Deaf) -> None:
    with begun.attend("digits", 1) as lease:
        claim = claimed(begun, lease, 0)
        with unheard.once():
            assert begun.broken(claim, 1, "crashed") == 1
        assert begun.broken(claim, 2, "crashed") == 2
