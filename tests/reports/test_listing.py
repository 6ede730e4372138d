"""The JSON scripts depend on: its keys, its figures, and that it is JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

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


def test_a_study_without_trials(empty: Ledger, study: Study) -> None:
    assert listing.studies(empty) == []
    empty.begin(study, {})
    assert strict(listing.studies(empty))[0]["best_validation_loss"] is None
    assert all(not arm["trials"] for arm in strict(listing.show(empty, "digits"))["arms"])


def test_an_unknown_study(ledger: Ledger) -> None:
    with pytest.raises(BadInput, match="unknown study 'digit'"):
        listing.show(ledger, "digit")
