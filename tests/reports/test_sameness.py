"""Which studies have the same data and which a method: what is pooled under one name, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recording import record
from test_compared import several

from hpo.reports.compared import compare
from hpo.spec import Study
from hpo.storage.ledger import Ledger


def names(ledger: Ledger, *studies: str) -> dict[str, int]:
    """Method → how many arms it has."""
    return {m["label"]: m["seeds"] for m in compare(ledger, *studies)["methods"]}


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ({}, {"space": {"learning_rate": {}}}),
        ({}, {"budget": {"trainings": 3000}}),
        ({}, {"budget": {"seconds": 30}}),
        ({}, {"methods": [{"name": "tpe", "startup": 3}]}),
        ({}, {"methods": [{"name": "random", "label": "tpe"}]}),
        ({}, {"training": {"steps": 600, "batch_size": 100, "solver": "adam"}}),
        ({"budget": {"gradient_evaluations": 6000}}, {"budget": {"gradient_evaluations": 9000}}),
    ],
)
def test_a_title_that_means_something_else_is_another_method(
    empty: Ledger, study: Study, there: dict[str, Any], here: dict[str, Any]
) -> None:
    several(empty, study, "A", "digits", {"tpe": [0.1] * 6}, **there)
    several(empty, study, "B", "digits", {"tpe": [0.5] * 6}, seeds=[0, 1, 2, 3, 4, 5], **here)
    several(empty, study, "C", "wine", {"tpe": [0.5] * 6}, **here)
    assert names(empty, "A", "B", "C") == {"tpe": 6, "tpe (B)": 12}


def test_one_method_goes_on_under_its_name_with_other_seeds_and_data(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1] * 2, "random": [0.2] * 2})
    later = {"name": "B", "seeds": [2, 3], "resources": {"workers": 2}}
    empty.begin(Study.model_validate(study.canonical() | later), {})
    several(empty, study, "C", "wine", {"drmad": [0.1] * 2, "random": [0.2] * 2})
    assert names(empty, "A", "B", "C") == {"drmad": 6, "random": 6, "tpe-global": 2}


def test_a_budget_of_gradient_evaluations_counts_in_trainings(empty: Ledger, study: Study) -> None:
    for name, data, steps in (("A", "digits", 600), ("B", "wine", 1000)):
        training = {"steps": steps, "batch_size": 100}
        several(
            empty, study, name, data, {"tpe": [0.1]}, training=training, budget={"gradient_evaluations": 30 * steps}
        )
    assert names(empty, "A", "B") == {"tpe": 2}


def test_what_is_repeated_gets_the_later_studys_name(empty: Ledger, study: Study) -> None:
    for name, data in (("wine-1", "wine"), ("digits-1", "digits")):
        several(empty, study, name, data, {"drmad": [0.1] * 6, "random": [0.2] * 6})
    several(empty, study, "digits-2", "digits", {"drmad": [0.1] * 6})
    several(empty, study, "wine-2", "wine", {"drmad": [0.1] * 6})
    assert names(empty, "wine-1", "digits-1", "digits-2") == {"drmad": 12, "random": 12, "drmad (digits-2)": 6}
    # A second repetition on other data goes on with the first one.
    assert names(empty, "wine-1", "digits-1", "digits-2", "wine-2")["drmad (digits-2)"] == 12


def test_a_title_in_brackets_that_is_taken(empty: Ledger, study: Study) -> None:
    methods = [{"name": "tpe"}, {"name": "random", "label": "tpe (B)"}]
    empty.begin(Study.model_validate(study.canonical() | {"name": "A", "methods": methods, "seeds": 1}), {})
    several(empty, study, "B", "digits", {"tpe": [0.1]}, budget={"trainings": 60})
    assert set(names(empty, "A", "B")) == {"tpe", "tpe (B)", "tpe (B) (B)"}


@pytest.mark.parametrize(
    ("data", "a", "b", "found"),
    [
        ("train.csv", "/a", "/b", ["train.csv (A)", "train.csv (B)"]),
        ("train.csv", "/a", "/a/../a", ["train.csv"]),
        ("/data/train.npz", "/a", "/b", ["/data/train.npz"]),
        ("digits", "/a", "/b", ["digits"]),
    ],
)
def test_files_of_one_name_in_two_folders_are_two_data_sets(
    empty: Ledger, study: Study, data: str, a: str, b: str, found: list[str]
) -> None:
    for name, folder, method in (("A", a, "drmad"), ("B", b, "random")):
        changed = {"name": name, "problem": {"data": data}, "methods": [method], "seeds": 2}
        empty.begin(Study.model_validate(study.canonical() | changed), {}, Path(folder))
        for seed in range(2):
            record(empty, f"{method}/{seed}", 0, 0.1, 0.1, name)
    told = compare(empty, "A", "B")
    assert [d["name"] for d in told["data"]] == found
    assert told["pairs"][0]["n"] == (2 if len(found) == 1 else 0)
