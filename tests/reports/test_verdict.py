"""The sentences follow the tests: what is better, what is worse, what cannot be told, and what to beware of."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from recording import record
from test_compared import several
from test_comparing import typed
from test_terminal_comparison import finish

import hpo
from hpo.failures import BadInput
from hpo.reports.compared import compare
from hpo.spec import Study
from hpo.storage.ledger import Ledger

SETS = ("digits", "wine", "breast-cancer", "diabetes", "mnist", "fashion-mnist", "cifar10")


def test_the_headline_goes_the_way_of_the_test_not_of_the_median(empty: Ledger, study: Study) -> None:
    # drmad is a little worse on most seeds and much better on the others.
    difference = np.r_[-np.linspace(0.2, 0.4, 19), np.linspace(0.01, 0.05, 21)]
    several(empty, study, "A", "digits", {"drmad": list(1 + difference), "random": [1.0] * 40})
    finish(empty, "A")
    headline, pair, *_ = compare(empty, "A")["verdict"]
    assert headline == "random has the best mean rank, but drmad is better than it (p ≤ 0.015 after Holm's correction)."
    assert "1.1% lower" in pair
    assert pair.endswith("more than chance, drmad is better.")


def test_rivals_that_are_better_are_named(empty: Ledger, study: Study) -> None:
    # Ranks are over the one seed on which all have an arm: there drmad is first.
    several(empty, study, "A", "digits", {"drmad": [0.1], "random": [0.2], "gp": [0.3]})
    seeds = list(range(1, 11))
    several(empty, study, "B", "digits", {"drmad": [0.5] * 10, "random": [0.1] * 10}, seeds=seeds)
    finish(empty, "A", "B")
    assert compare(empty, "A", "B")["verdict"][0] == (
        "drmad has the best mean rank, but random is better than it (its test loss is 400.0% higher in the median, "
        "p ≤ 0.002 after Holm's correction); it is not told apart from gp."
    )


def test_nothing_cannot_be_shown_where_something_is(empty: Ledger, study: Study) -> None:
    losses = np.random.default_rng(1).uniform(1, 2, 20)
    both = {"drmad": list(losses - 0.5), "random": list(losses + 0.2)}
    several(empty, study, "A", "digits", both)
    several(empty, study, "B", "digits", {"tpe": list(losses[:5] + 0.9)})
    told = " ".join(compare(empty, "A", "B")["verdict"])
    assert "is better than 1 of the other 2 methods" in told
    assert "cannot show" not in told


def test_equal_mean_ranks_are_said(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1, 0.4], "random": [0.2, 0.29], "gp": [0.5, 0.5]})
    finish(empty, "A")
    assert compare(empty, "A")["verdict"][0] == (
        "random shares the best mean rank with drmad, but 2 seeds cannot show that this is more than chance."
    )


def test_methods_that_never_meet(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1, 0.3]})
    several(empty, study, "B", "wine", {"random": [0.2, 0.3]})
    headline, pair, *others = compare(empty, "A", "B")["verdict"]
    assert headline == "So far drmad has the lowest median test loss, but meets random on no data and seed."
    assert "no data and seed on which both have an arm" in pair
    assert "cannot show" not in " ".join(others)


def test_where_every_arm_failed_the_reasons_are_pointed_to(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [math.nan] * 3, "random": [math.nan] * 3})
    assert compare(empty, "A")["verdict"] == ["No finished trials yet: nothing to compare."]
    finish(empty, "A")
    assert compare(empty, "A")["verdict"] == [
        "No arm has a usable trial: hpo show A lists the reasons.",
        "drmad has no usable trial on 3 of 3 seeds: last there.",
        "random has no usable trial on 3 of 3 seeds: last there.",
    ]


def test_spending_is_compared_where_all_have_ended(empty: Ledger, study: Study) -> None:
    changed = {"methods": ["drmad", "random"], "seeds": 3}
    empty.begin(Study.model_validate(study.canonical() | changed), {})
    for seed, cost in enumerate([600.0, 600.0, 9000.0]):
        record(empty, f"drmad/{seed}", 0, 0.1, 0.1, cost=cost)
        record(empty, f"random/{seed}", 0, 0.2, 0.2)
    for label in ("drmad/0", "random/0", "drmad/2"):  # on seed 2 random goes on
        empty.finish("digits", label, "complete")
    assert "Spending" not in " ".join(compare(empty, "digits")["verdict"])
    empty.finish("digits", "random/2", "complete")
    said = "Spending differs: from 600 gradient evaluations an arm (random) to 4800 (drmad)."
    assert said in compare(empty, "digits")["verdict"]
    assert typed(empty, "digits", "--format", "markdown").output.rstrip().endswith(f"- {said}")


def test_arms_that_fail_stay_in_curves_and_budgets(empty: Ledger, study: Study) -> None:
    empty.begin(Study.model_validate(study.canonical() | {"methods": ["drmad", "random"], "seeds": 8}), {})
    for seed in range(8):
        for number, loss in enumerate([1.0, 0.5]):
            record(empty, f"drmad/{seed}", number, loss, loss)
            mine = 0.9 * loss if seed < 2 else math.nan
            record(empty, f"random/{seed}", number, mine, mine)
    found = compare(empty, "digits")
    assert found["curves"]["drmad"]["trainings"]["test"]["median"] == [1.0, 0.5]
    assert found["curves"]["random"]["trainings"]["test"]["median"] == [None, None]
    [pair] = found["pairs"]
    assert (pair["a"], pair["wins"], pair["median_difference"], pair["p_value"]) == ("drmad", 6, None, 0.03125)
    assert (pair["more_budget"]["trainings"], pair["less_budget"]["trainings"]) == (None, None)


def test_curves_are_over_what_all_methods_have(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1, 0.2], "random": [0.3, 0.4]})
    several(empty, study, "B", "digits", {"drmad": [0.9] * 3}, seeds=[2, 3, 4])
    curves = compare(empty, "A", "B")["curves"]
    assert curves["drmad"]["trainings"]["test"]["median"] == pytest.approx([0.15])
    assert curves["random"]["trainings"]["test"]["median"] == pytest.approx([0.35])


def on_every(ledger: Ledger, study: Study, sets: tuple[str, ...] = SETS) -> list[str]:
    for i, data in enumerate(sets):
        losses = {"drmad": [0.1, 0.2], "tpe": [0.2, 0.3], "random": [0.3, 0.4 + i], "gp": [0.4, 0.6 + i]}
        several(ledger, study, f"on-{data}", data, losses)
    names = [f"on-{data}" for data in sets]
    finish(ledger, *names)
    return names


def test_a_control_is_compared_with_the_others_alone(empty: Ledger, study: Study, tmp_path: Path) -> None:
    names = on_every(empty, study)
    found = compare(empty, *names, control="tpe")
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [("tpe", "drmad"), ("tpe", "random"), ("tpe", "gp")]
    assert [p["p_holm"] for p in found["pairs"]] == [pytest.approx(3 * 2 / 2**7)] * 3
    assert found["control"] == "tpe"
    assert any(said.startswith("Not told apart from tpe by rank: drmad") for said in found["verdict"])
    assert found["verdict"][0].startswith("tpe is better than 2 of the other 3 methods (its test loss is ")
    assert ", but drmad is better than it (its test loss is " in found["verdict"][0]
    # Over all six pairs seven data sets are too few: 6 · 2/2⁷ = 0.094.
    assert compare(empty, *names)["verdict"][0] == (
        "drmad has the best mean rank, but it is not shown to be better than any of the other 3 methods."
    )
    assert json.loads(typed(empty, *names, "--control", "tpe", "--json").output) == json.loads(json.dumps(found))
    told = hpo.compare(*names, storage=empty.url, control="tpe")
    assert told.json == found
    assert told.page(tmp_path / "page.html").read_text(encoding="utf-8").count('data-a="tpe"') == 3
    assert "--all-pairs" not in typed(empty, *names, "--control", "tpe").output


def test_a_control_too_few_data_sets_say_nothing_about(empty: Ledger, study: Study) -> None:
    told = compare(empty, *on_every(empty, study, SETS[:3]), control="tpe")["verdict"]
    assert told[0] == "tpe: 3 data sets cannot show that it differs from any of the other 3 methods."
    assert (
        "3 data sets cannot show that a difference is more than chance: over its 3 pairs a signed-rank test needs 7 "
        in (" ".join(told))
    )


def test_an_unknown_control_is_answered_with_the_nearest(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1], "random": [0.3]})
    with pytest.raises(BadInput, match="unknown method 'drmat': use one of drmad, random; did you mean 'drmad'"):
        compare(empty, "A", control="drmat")
    assert typed(empty, "A", "--control", "drmat").exit_code == 2


def test_an_arm_that_has_not_begun_is_no_loss(empty: Ledger, study: Study) -> None:
    empty.begin(Study.model_validate(study.canonical() | {"methods": ["drmad", "random"], "seeds": 7}), {})
    for seed in range(7):
        record(empty, f"drmad/{seed}", 0, 0.1, 0.1)
        if seed < 3:
            record(empty, f"random/{seed}", 0, 0.2, 0.2)
    found = compare(empty, "digits")
    [pair] = found["pairs"]
    assert (pair["n"], pair["wins"], pair["p_value"], found["complete"]) == (3, 3, None, 3)
    assert "3 seeds cannot show that this is more than chance." in found["verdict"][0]
