"""The JSON scripts depend on: its keys, its figures, and that it is JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recording import record

from hpo.failures import BadInput
from hpo.reports import listing
from hpo.spec import Study
from hpo.storage.ledger import Ledger


def strict(value: Any) -> Any:
    """Through real JSON, which has neither NaN nor infinity."""
    return json.loads(json.dumps(value, allow_nan=False))


def test_the_list(ledger: Ledger) -> None:
    [entry] = strict(listing.studies(ledger))
    assert entry.pop("created").endswith("+00:00")
    assert entry == {"study": "digits", "arms": 6, "trials": 8, "state": "stopped", "best_validation_loss": 0.2}


def test_the_states_of_a_study(ledger: Ledger) -> None:
    def state() -> str:
        return listing.studies(ledger)[0]["state"]

    with ledger.attend("digits", 1):
        assert state() == "running"
    for arm in ledger.arms("digits"):
        assert state() == "stopped"
        ledger.finish("digits", arm.label, "complete")
    assert state() == "complete"
    ledger.finish("digits", "drmad/0", "failed")
    assert state() == "failed"


def test_show(ledger: Ledger, study: Study) -> None:
    shown = strict(listing.show(ledger, "digits"))
    assert {"study", "spec", "arms"} <= set(shown)
    assert shown["spec"] == study.canonical()
    arm = shown["arms"][0]
    assert {k: arm[k] for k in ("label", "method", "solver", "per", "seed", "state")} == {
        "label": "drmad/0", "method": "drmad", "solver": "sgd", "per": "neuron", "seed": 0, "state": "complete",
    }  # fmt: skip
    first, *_, running = arm["trials"]
    assert {"number", "state", "validation_loss", "test_loss", "seconds", "gradient_evaluations", "hyper"} <= set(first)
    assert (first["number"], first["state"], first["validation_loss"], first["test_loss"]) == (0, "complete", 0.5, 0.6)
    assert (first["seconds"], first["gradient_evaluations"]) == (2.0, 600.0)
    assert first["hyper"] == {
        "l2": {"per": "neuron", "min": 1e-3, "median": 1e-2, "max": 1.0},
        "learning_rate": {"per": "global", "min": 0.05, "median": 0.05, "max": 0.05},
    }
    assert (running["number"], running["state"], running["validation_loss"]) == (3, "running", None)


def test_the_states_of_arms(ledger: Ledger) -> None:
    def states() -> dict[str, str]:
        return {a["label"]: a["state"] for a in listing.show(ledger, "digits")["arms"]}

    expected = {"drmad/0": "complete", "random/0": "failed", "random/1": "waiting"}
    others = ["tpe-global/0", "drmad/1", "tpe-global/1"]
    assert states() == expected | dict.fromkeys(others, "stopped")
    with ledger.attend("digits", 1):
        assert states() == expected | dict.fromkeys(others, "running")


def test_the_arms_of_a_comparison(ledger: Ledger) -> None:
    compared = strict(listing.compare(ledger, "digits"))
    assert {"study", "metric", "arms", "methods", "pairs"} <= set(compared)
    arms = {a["label"]: a for a in compared["arms"]}
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
    compared = strict(listing.compare(ledger, "digits"))
    # Seed 0: drmad 0.3, tpe 0.4, random none. Seed 1: drmad 0.5, tpe infinite and random none tie for the last place.
    assert [(m["label"], m["mean_rank"], m["median_test_loss"]) for m in compared["methods"]] == [
        ("drmad", 1.0, pytest.approx(0.4)),
        ("tpe-global", 2.25, 0.4),
        ("random", 2.75, None),
    ]
    assert [(m["usable"], m["seeds"]) for m in compared["methods"]] == [(2, 2), (2, 2), (0, 2)]
    assert [(p["a"], p["b"]) for p in compared["pairs"]] == [
        ("drmad", "tpe-global"), ("drmad", "random"), ("tpe-global", "random"),
    ]  # fmt: skip
    first = compared["pairs"][0]
    assert {"a", "b", "n", "wins", "median_difference", "ci95", "p_value", "p_holm"} <= set(first)
    assert (first["n"], first["wins"], first["ci95"], first["p_value"], first["p_holm"]) == (2, 2, None, None, None)
    assert first["median_difference"] == pytest.approx(-0.1)


def test_with_enough_seeds_there_are_p_values(empty: Ledger, study: Study) -> None:
    empty.begin(Study.model_validate(study.canonical() | {"seeds": list(range(8))}), {})
    for seed in range(8):
        for arm, loss in {"drmad": 0.1, "tpe-global": 0.2, "random": 0.3}.items():
            record(empty, f"{arm}/{seed}", 0, loss, loss + seed / 100 * loss)
    pairs = strict(listing.compare(empty, "digits"))["pairs"]
    assert [p["p_value"] for p in pairs] == [2 / 2**8] * 3
    assert [p["p_holm"] for p in pairs] == [6 / 2**8] * 3
    assert all(p["ci95"][0] <= p["median_difference"] <= p["ci95"][1] < 0 for p in pairs)


def test_a_study_without_trials(empty: Ledger, study: Study) -> None:
    assert listing.studies(empty) == []
    empty.begin(study, {})
    assert strict(listing.studies(empty))[0]["best_validation_loss"] is None
    compared = strict(listing.compare(empty, "digits"))
    assert {m["mean_rank"] for m in compared["methods"]} == {None}
    assert {p["n"] for p in compared["pairs"]} == {0}
    assert all(not arm["trials"] for arm in strict(listing.show(empty, "digits"))["arms"])


def test_an_unknown_study(ledger: Ledger) -> None:
    for question in (listing.show, listing.compare):
        with pytest.raises(BadInput, match="unknown study 'digit'"):
            question(ledger, "digit")
