"""A trial's checkpoint: replaced as a whole, by the run that has the trial, gone when it is closed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from entries import ARM, claimed, outcome, taken_up
from sqlalchemy import select

from hpo.storage.claims import Claim
from hpo.storage.desk import Desk, TakenOver
from hpo.storage.ledger import Ledger
from hpo.storage.tables import CheckpointRow


def names(ledger: Ledger) -> list[str]:
    with ledger._database.read() as session:
        return list(session.scalars(select(CheckpointRow.name).order_by(CheckpointRow.name)))


def test_what_is_saved_comes_back_bit_by_bit(begun: Ledger) -> None:
    with begun.attend("digits", 1) as lease:
        claim = claimed(begun, lease, 0)
        assert begun.saved(claim) is None
        state = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
        assert begun.save(claim, {"state/3": state, "step": np.array(3), "empty": np.zeros((0, 3))})
        found = begun.saved(claim)
        assert found is not None
        assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in found.items()} == {
            "state/3": (np.float32, (50, 7), state.tobytes()),
            "step": (np.int64, (), np.array(3).tobytes()),
            "empty": (np.float64, (0, 3), b""),
        }


def test_what_stays_is_not_written_again_and_the_rest_is_replaced(begun: Ledger) -> None:
    with begun.attend("digits", 1) as lease:
        claim = claimed(begun, lease, 0)
        begun.save(claim, {"knot/0": np.ones(3), "state/1": np.zeros(3)})
        begun.save(claim, {"state/2": np.full(3, 2.0)}, {"knot/0", "never/there"})
        found = begun.saved(claim)
        assert found is not None
        assert {name: array[0] for name, array in found.items()} == {"knot/0": 1.0, "state/2": 2.0}
        assert begun.close_trial(claim, outcome(1.0))
        assert names(begun) == []
        assert not begun.save(claim, {"state/3": np.ones(1)}), "the trial is closed"
        assert names(begun) == []


def test_only_the_run_that_has_the_trial_saves_it(begun: Ledger, url: str) -> None:
    with begun.attend("digits", 1, "first") as lease:
        claim = claimed(begun, lease, 0)
        with Desk(url, claim) as desk:
            assert desk.save({"state/1": np.ones(1)}, ())
    with begun.attend("digits", 1, "second") as lease:
        found = taken_up(begun, lease)
        assert found is not None
        assert found.claim.saved
        with Desk(url, found.claim) as desk:
            loaded = desk.load()
            assert loaded is not None
            assert list(loaded) == ["state/1"]
        with (
            Desk(url, claim) as late,
            pytest.raises(TakenOver, match=f"trial 0 of {ARM} was taken over by another run"),
        ):
            late.save({"state/9": np.ones(1)}, ())
        assert names(begun) == ["last_event", "state/1"]


def test_a_database_out_of_reach_costs_a_checkpoint_and_no_training(
    begun: Ledger, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with begun.attend("digits", 1) as lease:
        claim = claimed(begun, lease, 0)
        with Desk(url.replace("hpo.db", "gone.db").replace("127.0.0.1:", "127.0.0.1:1"), claim) as desk:
            assert not desk.save({"state/1": np.ones(1)}, ())
    assert f"trial 0 of {ARM} is not saved: " in caplog.text
    assert "s3cret" not in caplog.text


def test_losses_count_until_the_trial_gets_on(begun: Ledger) -> None:
    def killed() -> tuple[Claim, Mapping[str, int]]:
        """The trial in a new run of the same name, after one that never said goodbye."""
        found = taken_up(begun, begun._attend("digits", 1, "w"))
        assert found is not None
        return found.claim, found.causes

    claimed(begun, begun._attend("digits", 1, "w"), 0)
    assert killed()[1] == {"lost": 1}
    claim, causes = killed()
    assert causes == {"lost": 2}
    assert [begun.broken(claim, attempt, "crashed") for attempt in (1, 1, 2)] == [1, 1, 2]
    begun.save(claim, {"state/1": np.ones(1)})
    assert begun.broken(claim, 3, "crashed") == 1, "counted since the checkpoint"
    assert begun.broken(claim, 3, "exhausted") == 1, "each kind for itself"
    assert killed()[1] == {"crashed": 1, "exhausted": 1, "lost": 1}
