"""When a study goes on, and when it is another one: what `begin` takes and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
from entries import ARM, changed, record

from hpo.failures import BadStorage, BadStudy
from hpo.spec import Budget, Study
from hpo.storage.ledger import Ledger
from hpo.storage.tables import StudyRow


def test_beginning_again_changes_nothing(begun: Ledger, study: Study) -> None:
    record(begun, 0, 1.0)
    begun.finish("digits", ARM, "complete")
    before = begun.arms("digits"), begun.figures("digits")
    begun.begin(study, {"python": "3.13"})
    assert (begun.arms("digits"), begun.figures("digits")) == before
    assert begun.study("digits").versions == {"python": "3.13"}


def test_another_budget_opens_finished_arms_and_other_resources_do_not(begun: Ledger, study: Study) -> None:
    begun.finish("digits", ARM, "complete")
    begun.begin(changed(study, resources={"workers": 2}, execution="serial"), {})
    assert begun.arms("digits")[0].state == "complete"
    begun.begin(changed(study, budget={"trainings": 60}), {})
    assert begun.arms("digits")[0].state == "open"
    assert begun.study("digits").spec.budget.trainings == 60
    begun.begin(changed(study, budget={"seconds": 1.0}), {})
    assert begun.study("digits").spec.budget.seconds == 1.0


def test_seeds_may_be_added_and_not_taken_away(begun: Ledger, study: Study) -> None:
    record(begun, 0, 1.0)
    begun.begin(changed(study, seeds=[5, 0, 1]), {})
    assert [a.label for a in begun.arms("digits")] == [a.label for a in changed(study, seeds=[5, 0, 1]).arms()]
    assert len(begun.trials("digits", ARM)) == 1
    with pytest.raises(BadStudy, match=r"seeds: was \[5, 0, 1\], is \[5, 1\] \(seeds may only be added\)"):
        begun.begin(changed(study, seeds=[5, 1]), {})
    assert len(begun.arms("digits")) == 6


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"space": {"l2": {"per": "neuron", "low": 1e-5, "high": 1.0}, "learning_rate": {}}},
            "space.l2.low: was 1e-06, is 1e-05",
        ),
        (
            {"space": {"l2": {"per": "neuron", "low": 1e-6, "high": 1.0}}},
            "space.learning_rate: was {per: global}, is (absent)",
        ),
        (
            {"space": {"learning_rate": {}, "l2": {"per": "neuron", "low": 1e-6, "high": 1.0}}},
            "space: the order was l2, learning_rate, is learning_rate, l2",
        ),
        (
            {"problem": {"data": "wine", "split": {"train": 300, "validation": 600}, "model": {"mlp": [50, 50]}}},
            "problem.data: was digits, is wine; problem.model.mlp: was [50], is [50, 50]",
        ),
        (
            {"training": {"solver": {"name": "adam"}, "steps": 600, "batch_size": 100}},
            "training.solver.sgd: was {name: sgd}, is (absent); training.solver.adam: was (absent), is {name: adam}",
        ),
        (
            {"methods": ["drmad", {"name": "tpe", "per": "global", "startup": 6}]},
            "methods.tpe-global.startup: was 5, is 6",
        ),
        (
            {"methods": ["drmad"]},
            "methods.tpe-global: was {name: tpe, per: global, startup: 5}, is (absent)",
        ),
    ],
)
def test_another_search_needs_another_name(begun: Ledger, study: Study, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(BadStudy) as caught:
        begun.begin(changed(study, **parts), {})
    assert (
        str(caught.value) == f"study 'digits' exists and differs: {said}; give another name, or branch with --as NAME"
    )
    assert begun.study("digits").spec == study


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_a_number_that_json_cannot_hold_is_named(ledger: Ledger, study: Study, number: float) -> None:
    odd = changed(study, methods=["drmad", {"name": "tpe", "weights": [1.0, number]}])
    with pytest.raises(BadStudy, match=rf"methods.1.weights.1 is {number}: give a finite number"):
        ledger.begin(odd, {})
    with pytest.raises(BadStudy, match=rf"budget.seconds is {number}"):
        ledger.begin(changed(study).model_copy(update={"budget": Budget.model_construct(seconds=number)}), {})
    assert ledger.studies() == []


def test_a_study_stored_by_another_hpo_is_named_and_still_listed(begun: Ledger) -> None:
    with begun._database.write() as session:
        row = session.query(StudyRow).one()
        row.spec = {**row.spec, "novelty": 1}
    with pytest.raises(
        BadStorage, match="study 'digits' was stored by an hpo whose study files this one does not read"
    ):
        begun.study("digits")
    assert [s.name for s in begun.studies()] == ["digits"]
