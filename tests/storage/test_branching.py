"""A branch begins with what its parent has, where nothing was changed; imported trials teach and cost nothing."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from entries import ARM, FREE, changed, left_running, outcome, proposal, record

from hpo.failures import BadStudy
from hpo.spec import Study
from hpo.storage import upkeep
from hpo.storage.ledger import Ledger
from hpo.storage.records import Standing
from hpo.trial import Cost, Outcome, Trial


def essence(ledger: Ledger, study: str, arm: str) -> list[object]:
    return [
        (
            t.number,
            t.state,
            {k: v.tobytes() for k, v in t.proposal.values.items()},
            t.outcome and (t.outcome.validation_loss, t.outcome.cost, t.outcome.curve.tobytes()),
        )
        for t in ledger.trials(study, arm)
    ]


@pytest.fixture
def parent(begun: Ledger) -> Ledger:
    record(begun, 0, 2.0, weights={"w": np.ones(3)}, curve=np.ones((2, 3)))
    record(begun, 1, 3.0)
    left_running(begun, 2)
    record(begun, 0, 5.0, arm="tpe-global/0")
    return begun


def test_arms_that_did_not_change_keep_their_trials(parent: Ledger, study: Study) -> None:
    methods = ["drmad", {"name": "tpe", "per": "global", "startup": 7}, "random"]
    branch = changed(study, name="other", methods=methods)
    parent.branch("digits", branch, {})
    assert parent.study("other").parent == "digits"
    assert essence(parent, "other", ARM) == essence(parent, "digits", ARM)
    assert parent.standing("other")[ARM] == parent.standing("digits")[ARM] == Standing(3, 1, Cost(2, 1200.0, 5.0))
    assert parent.trials("other", "tpe-global/0") == [], "its startup was changed"
    kept = parent.weights("other", ARM, 0)
    assert kept is not None
    assert kept["w"].tolist() == [1.0, 1.0, 1.0]
    parent.branch("digits", branch, {})  # again: nothing more
    parent.begin(branch, {})
    assert len(parent.trials("other", ARM)) == 3
    parent.delete("digits")
    assert len(parent.trials("other", ARM)) == 3, "the branch stands alone"


@pytest.mark.parametrize(
    "parts",
    [
        {"training": {"steps": 601, "batch_size": 100}},
        {"space": {"l2": {"per": "neuron", "low": 1e-5, "high": 1.0}, "learning_rate": {}}},
        {"space": {"learning_rate": {}, "l2": {"per": "neuron", "low": 1e-6, "high": 1.0}}},
        {"problem": {"data": "wine"}},
    ],
)
def test_another_problem_training_or_space_begins_anew(parent: Ledger, study: Study, parts: dict[str, object]) -> None:
    parent.branch("digits", changed(study, name="other", **parts), {})
    assert {standing.next_number for standing in parent.standing("other").values()} == {0}


def test_a_branch_needs_a_new_name(parent: Ledger, study: Study) -> None:
    parent.begin(changed(study, name="other"), {})
    with pytest.raises(BadStudy, match="study 'other' exists: branch under a name that is new"):
        parent.branch("digits", changed(study, name="other"), {})


def test_imported_trials_teach_cost_nothing_and_are_never_best(begun: Ledger) -> None:
    record(begun, 0, 2.0)
    past = [Trial(proposal(n), Outcome("complete", 0.1 * (n + 1), math.nan, cost=Cost(0))) for n in range(2)]
    begun.adopt("digits", ARM, past, "sqlite:///old.db old")
    record(begun, 3, 1.0, weights={"w": np.ones(1)})
    trials = begun.trials("digits", ARM)
    assert [(t.number, t.origin) for t in trials] == [
        (0, None), (1, "sqlite:///old.db old"), (2, "sqlite:///old.db old"), (3, None),
    ]  # fmt: skip
    assert begun.standing("digits")[ARM] == Standing(4, 0, Cost(2, 1200.0, 5.0))
    assert begun.studies()[0].best_validation_loss == 1.0
    assert begun.weights("digits", ARM, 3) is not None, "an imported trial was better, and is none of ours"
    with pytest.raises(BadStudy, match=r"arm drmad/0 has the trials of sqlite:///old.db old already"):
        begun.adopt("digits", ARM, past, "sqlite:///old.db old")
    assert len(begun.trials("digits", ARM)) == 4


def test_a_branch_and_an_import_see_one_moment_of_a_study_that_runs(begun: Ledger, study: Study, url: str) -> None:
    ended, errors = threading.Event(), list[BaseException]()

    def works() -> None:
        try:
            with Ledger.open(url) as other, other.attend("digits", 1, "other") as lease:
                while not ended.is_set():
                    number = other.standing("digits")[ARM].next_number
                    claim = other.claim(lease, ARM, proposal(number), 0.0, FREE)
                    if claim is not None:
                        assert other.close_trial(claim, outcome(1.0))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=works)
    thread.start()
    try:
        for turn in range(8):
            begun.branch("digits", changed(study, name=f"branch-{turn}"), {})
            past = Outcome("complete", 1.0, math.nan, cost=Cost(0))
            begun.adopt("digits", ARM, [Trial(proposal(n), past) for n in range(3)], f"old {turn}")
    finally:
        ended.set()
        thread.join()
    assert errors == []
    assert upkeep.check(url) == []
    origins = [t.origin for t in begun.trials("digits", ARM) if t.origin is not None]
    assert origins == [f"old {turn}" for turn in range(8) for _ in range(3)]
