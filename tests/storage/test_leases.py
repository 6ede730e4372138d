"""Whether a study is being run, as a list or a deletion sees it."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from hpo.failures import BadStorage
from hpo.storage.leases import USUAL
from hpo.storage.ledger import Ledger
from hpo.storage.tables import LeaseRow


def test_a_study_runs_while_one_of_its_runs_does(begun: Ledger) -> None:
    assert not begun.study("digits").running
    with begun.attend("digits", 1, "one"):
        assert begun.study("digits").running
        assert begun.studies()[0].running
    assert not begun.studies()[0].running


@pytest.mark.parametrize(("age", "runs"), [(USUAL.lease - 10, True), (USUAL.lease + 10, False), (-3600.0, False)])
def test_a_run_on_another_machine_is_believed_while_it_beats(begun: Ledger, age: float, runs: bool) -> None:
    lease = begun._attend("digits", 1, "far")
    with begun._database.write() as session:
        beat = begun._database.clock(session) - age
        session.execute(update(LeaseRow).where(LeaseRow.id == lease.token).values(host="elsewhere", beat=beat))
    assert (begun.study("digits").running, begun.study("digits").runs) == (runs, 1)
    assert begun.studies()[0].running == runs
    if runs:
        with pytest.raises(BadStorage, match="study 'digits' is being run: stop it first"):
            begun.delete("digits")
    else:
        begun.delete("digits")


def test_the_slots_of_all_runs_count(begun: Ledger) -> None:
    with begun.attend("digits", 3, "one") as lease:
        assert begun.slots(lease) == 3
        other = Ledger.open(begun.url)
        with other._database.write() as session:
            session.execute(update(LeaseRow).values(host="elsewhere"))  # not this process's: it stays
        with other.attend("digits", 2, "two"):
            assert begun.slots(lease) == 5
        assert begun.slots(lease) == 3
        other.close()
