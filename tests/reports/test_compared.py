"""The JSON of a comparison: its keys, its figures, and that it is JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from recording import proposal, record
from test_listing import strict

from hpo.failures import BadInput
from hpo.reports.compared import SHARE, compare
from hpo.space import Group, Space
from hpo.spec import Study
from hpo.storage.ledger import Ledger
from hpo.trial import Cost, Outcome, Trial


def rates(default: float) -> Space:
    """A space in which the recorded trials, all at a learning rate of 0.05, are at the defaults, or are not."""
    return Space((Group("learning_rate", "global", 1e-3, 1.0, default, True, 1, ()),))


def several(
    ledger: Ledger, study: Study, name: str, data: str, losses: Mapping[str, list[float]], **other: Any
) -> None:
    """A study with one trial an arm, by title and seed: 0, 1, … if no seeds are named."""
    seeds = other.get("seeds") or list(range(len(next(iter(losses.values())))))
    changed = {"name": name, "problem": {"data": data}, "methods": list(losses), "seeds": seeds, **other}
    ledger.begin(Study.model_validate(study.canonical() | changed), {})
    for title, of_seeds in losses.items():
        for seed, loss in zip(seeds, of_seeds, strict=False):
            record(ledger, f"{title}/{seed}", 0, loss, loss, name)


def test_the_arms_of_a_comparison(ledger: Ledger) -> None:
    found = strict(compare(ledger, "digits"))
    assert {"study", "metric", "arms", "methods", "pairs"} <= set(found)
    arms = {a["label"]: a for a in found["arms"]}
    drmad = arms["drmad/0"]
    assert {
        "label", "method", "solver", "per", "seed", "trials", "best_trial", "validation_loss", "test_loss",
        "test_accuracy", "cost",
    } <= set(drmad)  # fmt: skip
    # Chosen by validation, not by the lower test loss of trial 2; the running trial costs nothing yet.
    assert (drmad["best_trial"], drmad["validation_loss"], drmad["test_loss"]) == (1, 0.2, 0.3)
    assert (drmad["trials"], drmad["test_accuracy"]) == (3, 0.9)
    assert drmad["cost"] == {"trainings": 3, "gradient_evaluations": 1800.0, "seconds": 7.5}
    assert (arms["tpe-global/1"]["best_trial"], arms["tpe-global/1"]["test_loss"]) == (0, None)
    assert [arms[label]["best_trial"] for label in ("random/0", "random/1")] == [None, None]
    assert arms["random/1"]["cost"] == {"trainings": 0, "gradient_evaluations": 0, "seconds": 0}


def test_the_methods_and_pairs_of_a_comparison(ledger: Ledger) -> None:
    ledger.finish("digits", "random/1", "failed")  # without a trial: until then it is not there
    found = strict(compare(ledger, "digits"))
    # Seed 0: drmad 0.3, tpe 0.4, random none. Seed 1: drmad 0.5, tpe infinite and random none tie for the last place.
    assert [(m["label"], m["mean_rank"], m["median_test_loss"]) for m in found["methods"]] == [
        ("drmad", 1.0, pytest.approx(0.4)),
        ("tpe-global", 2.25, 0.4),
        ("random", 2.75, None),
    ]
    assert [(m["usable"], m["seeds"]) for m in found["methods"]] == [(2, 2), (2, 2), (0, 2)]
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [
        ("drmad", "tpe-global"), ("drmad", "random"), ("tpe-global", "random"),
    ]  # fmt: skip
    first = found["pairs"][0]
    assert {"a", "b", "n", "wins", "median_difference", "ci95", "p_value", "p_holm"} <= set(first)
    assert (first["n"], first["wins"], first["ci95"], first["p_value"], first["p_holm"]) == (2, 2, None, None, None)
    # −0.1 and −∞, as tpe has no finite figure on seed 1
    assert first["median_difference"] is None
    assert first["note"].endswith("; on half of 2 pairs or more a method has no figure: there is no median")


def test_with_enough_seeds_there_are_p_values(empty: Ledger, study: Study) -> None:
    empty.begin(Study.model_validate(study.canonical() | {"seeds": list(range(8))}), {})
    for seed in range(8):
        for arm, loss in {"drmad": 0.1, "tpe-global": 0.2, "random": 0.3}.items():
            record(empty, f"{arm}/{seed}", 0, loss, loss + seed / 100 * loss)
    pairs = strict(compare(empty, "digits"))["pairs"]
    assert [p["p_value"] for p in pairs] == [2 / 2**8] * 3
    assert [p["p_holm"] for p in pairs] == [6 / 2**8] * 3
    assert all(p["ci95"][0] <= p["median_difference"] <= p["ci95"][1] < 0 for p in pairs)


def test_a_study_without_trials(empty: Ledger, study: Study) -> None:
    empty.begin(study, {})
    found = strict(compare(empty, "digits"))
    assert {m["mean_rank"] for m in found["methods"]} == {None}
    assert {p["n"] for p in found["pairs"]} == {0}
    assert found["verdict"] == ["No finished trials yet: nothing to compare."]
    assert found["curves"]["drmad"]["seconds"] == {
        "at": [0.0], **{kind: {key: [None] for key in ("median", "low", "high")} for kind in ("test", "validation")},
    }  # fmt: skip


def test_an_unknown_study(ledger: Ledger) -> None:
    with pytest.raises(BadInput, match="unknown study 'digit'"):
        compare(ledger, "digits", "digit")


def test_curves_are_medians_of_incumbents_and_end_at_the_tables_medians(ledger: Ledger) -> None:
    ledger.finish("digits", "random/1", "failed")
    found = strict(compare(ledger, "digits"))
    drmad = found["curves"]["drmad"]
    # Seed 0: 0.6, then 0.3 (validation 0.5, 0.2; the third trial is worse in validation). Seed 1: 0.5 (validation 0.4).
    assert drmad["trainings"]["at"] == [1.0, 2.0, 3.0]
    assert drmad["trainings"]["test"]["median"] == pytest.approx([0.55, 0.4, 0.4])
    assert drmad["trainings"]["test"]["low"] == pytest.approx([0.525, 0.35, 0.35])
    assert drmad["trainings"]["test"]["high"] == pytest.approx([0.575, 0.45, 0.45])
    assert drmad["trainings"]["validation"]["median"] == pytest.approx([0.45, 0.3, 0.3])
    assert drmad["gradient_evaluations"]["at"] == [600.0, 1200.0, 1800.0]
    assert drmad["seconds"]["at"] == [2.5, 5.0, 7.5]  # with half a second to ask
    # tpe's second arm has no finite figure, and stays among the arms: 0.4 and ∞.
    assert found["curves"]["tpe-global"]["trainings"]["test"] == {
        "median": [None] * 3, "low": [None] * 3, "high": [None] * 3,
    }  # fmt: skip
    for m in found["methods"]:
        for unit in drmad:
            if m["label"] == "drmad":
                assert drmad[unit]["test"]["median"][-1] == m["median_test_loss"]
            assert found["ranks"][unit]["methods"][m["label"]][-1] == m["mean_rank"]
    assert found["ranks"]["trainings"]["methods"]["drmad"] == [1.5, 1.0, 1.0]


def test_budgets_are_those_of_the_median_curves(empty: Ledger, study: Study) -> None:
    two = {"methods": ["drmad", "random"], "seeds": 1}
    empty.begin(Study.model_validate(study.canonical() | two), {})
    for number, loss in enumerate([0.5, 0.2, 0.3]):
        record(empty, "drmad/0", number, loss, loss)
    for number, loss in enumerate([0.5, 0.4, 0.4, 0.2]):
        record(empty, "random/0", number, loss, loss, cost=900.0)
    [pair] = strict(compare(empty, "digits"))["pairs"]
    assert pair["more_budget"] == {"trainings": 2.0, "gradient_evaluations": 3.0, "seconds": 2.0}
    assert pair["less_budget"] == pytest.approx({"trainings": 2 / 3, "gradient_evaluations": 2 / 3, "seconds": 2 / 3})


def test_several_studies_are_paired_by_data_and_seed(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1, 0.2], "random": [0.2, 0.4]})
    several(empty, study, "B", "wine", {"drmad": [3.0, 1.0], "random": [2.0, 4.0]})
    found = strict(compare(empty, "A", "B", "A"))
    assert (found["study"], found["studies"], found["scale"], found["complete"]) == ("A, B", ["A", "B"], SHARE, 4)
    assert [(d["name"], d["studies"], d["seeds"]) for d in found["data"]] == [
        ("digits", ["A"], [0, 1]), ("wine", ["B"], [0, 1]),
    ]  # fmt: skip
    assert [(a["study"], a["data"], a["label"], a["test_loss"]) for a in found["arms"]][3:5] == [
        ("A", "digits", "random/1", 0.4), ("B", "wine", "drmad/0", 3.0),
    ]  # fmt: skip
    [pair] = found["pairs"]
    assert (pair["a"], pair["n"], pair["wins"], pair["p_value"], pair["pooled_p_value"]) == ("drmad", 4, 3, None, None)
    sets = pair["data_sets"]
    # Each in shares of the median over methods: −2/3 on both seeds of digits, 2/5 and −6/5 on those of wine.
    assert (sets["n"], sets["wins"], sets["p_value"]) == (2, 2, None)
    assert sets["median_difference"] == pytest.approx(-(2 / 3 + 2 / 5) / 2)
    assert sets["median_reduction"] == pytest.approx((1 / 2 + 1 / 8) / 2)
    assert pair["note"].startswith("below 6 data sets, here 2, there is no p-value")
    # Nobody tried the defaults: the unit is the median over methods. 0.1 and 0.2 of 0.15, 3 and 2 of 2.5, and so on.
    a = [0.1 / 0.15, 0.2 / 0.3, 3 / 2.5, 1 / 2.5]
    b = [0.2 / 0.15, 0.4 / 0.3, 2 / 2.5, 4 / 2.5]
    assert pair["median_difference"] == pytest.approx(np.median(np.subtract(a, b)))
    assert found["methods"][0]["median_test_loss"] == pytest.approx(np.median(a))
    assert found["curves"]["random"]["trainings"]["test"]["median"] == pytest.approx([np.median(b)])
    # A data set by itself is told in its own losses.
    assert found["data"][1]["methods"] == [
        {"label": "drmad", "mean_rank": 1.5, "median_test_loss": 2.0},
        {"label": "random", "mean_rank": 1.5, "median_test_loss": 3.0},
    ]
    alone = strict(compare(empty, "A"))
    assert (alone["scale"], alone["pairs"][0]["data_sets"]) == ("test_loss", None)
    assert alone["methods"][0]["median_test_loss"] == pytest.approx(0.15)


def test_shares_are_of_the_test_loss_at_the_defaults(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.3], "random": [0.6]})
    several(empty, study, "B", "wine", {"drmad": [3.0], "random": [6.0]})
    empty.describe("A", "drmad/0", rates(0.01), {})
    empty.describe("A", "random/0", rates(0.05), {})
    found = strict(compare(empty, "A", "B"))
    assert [d["defaults"] for d in found["data"]] == [{"0": 0.6}, {"0": None}]
    # On digits random's trial 0 was at the defaults and drmad's was not; on wine nothing is known: the median, 4.5.
    assert found["methods"][0]["test_loss_range"] == pytest.approx([0.3 / 0.6, 3 / 4.5])


def test_losses_that_are_not_positive_have_no_shares(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [-1.0], "random": [-2.0]})
    several(empty, study, "B", "wine", {"drmad": [3.0], "random": [6.0]})
    [pair] = strict(compare(empty, "A", "B"))["pairs"]
    assert (pair["n"], pair["wins"]) == (1, 1)


def test_one_method_of_two_studies_on_the_same_data_is_told_by_study(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"tpe": [0.1, 0.2], "random": [0.2, 0.4]})
    several(empty, study, "B", "digits", {"tpe": [0.3, 0.1], "gp": [0.2, 0.4]}, budget={"trainings": 60})
    found = strict(compare(empty, "A", "B"))
    assert {m["label"] for m in found["methods"]} == {"tpe", "tpe (B)", "random", "gp"}
    assert [(d["name"], d["studies"]) for d in found["data"]] == [("digits", ["A", "B"])]
    assert (found["scale"], found["complete"], len(found["pairs"])) == ("test_loss", 2, 6)


def test_data_of_one_name_that_cannot_be_compared_are_two(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1]})
    several(empty, study, "B", "digits", {"drmad": [0.2], "random": [0.3]}, training={"steps": 60, "batch_size": 100})
    found = strict(compare(empty, "A", "B"))
    assert [d["name"] for d in found["data"]] == ["digits (A)", "digits (B)"]
    assert found["complete"] == 1
    assert "Ranks are over 1 of 2 pairs of data set and seed: those all methods have." in found["verdict"]


def test_methods_that_never_meet_have_no_ranks(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1, 0.3]})
    several(empty, study, "B", "wine", {"random": [0.2, 0.3]})
    found = strict(compare(empty, "A", "B"))
    assert {m["mean_rank"] for m in found["methods"]} == {None}
    assert found["pairs"][0]["n"] == 0
    assert set(found["ranks"]["trainings"]["methods"]["drmad"]) == {None}
    assert "has the lowest median test loss" in found["verdict"][0]


def test_the_critical_difference_counts_data_sets_where_there_are_enough(empty: Ledger, study: Study) -> None:
    names = ("digits", "wine", "breast-cancer", "diabetes", "mnist", "fashion-mnist")
    for i, data in enumerate(names):
        losses = {"drmad": [0.1, 0.2], "tpe": [0.2, 0.3], "random": [0.3, 0.4 + i]}
        several(empty, study, f"on-{data}", data, losses)
    six = strict(compare(empty, *(f"on-{data}" for data in names)))
    assert (six["critical_difference"]["n"], six["critical_difference"]["blocks"]) == (6, "data sets")
    assert six["critical_difference"]["ranks"] == {"drmad": 1.0, "tpe": 2.0, "random": 3.0}
    assert six["critical_difference"]["groups"] == [["drmad", "tpe"], ["tpe", "random"]]
    first = six["pairs"][0]
    assert (first["n"], first["p_value"], first["p_holm"]) == (12, 2 / 2**6, 6 / 2**6)
    assert (first["pooled_p_value"], first["data_sets"]["wins"]) == (pytest.approx(2 / 2**12), 6)
    five = strict(compare(empty, *(f"on-{data}" for data in names[:5])))
    assert five["critical_difference"]["note"] == "6 or more data sets are needed, not 5"
    assert (five["pairs"][0]["p_value"], five["pairs"][0]["pooled_p_value"]) == (None, pytest.approx(2 / 2**10))
    assert "but 5 data sets cannot show that this is more than chance." in five["verdict"][0]


def test_an_imported_trial_is_neither_charged_nor_chosen(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"random": [0.3], "tpe": [0.4]}, seeds=[0, 1])
    told = Trial(proposal(0), Outcome("complete", 0.01, 0.01, cost=Cost(0)))
    empty.adopt("A", "tpe/1", [told], "elsewhere")
    empty.describe("A", "tpe/1", rates(0.05), {})
    record(empty, "tpe/1", 1, 0.5, 0.6, "A")
    empty.finish("A", "random/1", "failed")
    found = strict(compare(empty, "A"))
    arm = next(a for a in found["arms"] if a["label"] == "tpe/1")
    assert (arm["best_trial"], arm["test_loss"], arm["cost"]["gradient_evaluations"]) == (1, 0.6, 600.0)
    assert found["curves"]["tpe"]["gradient_evaluations"]["test"]["median"] == [0.5]
    assert found["curves"]["tpe"]["gradient_evaluations"]["at"] == [600.0]
    assert found["data"][0]["defaults"] == {"0": None, "1": None}
