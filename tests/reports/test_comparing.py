"""`hpo compare` as typed: its formats, several studies, studies there are not."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner, Result
from test_compared import several

from hpo.cli import main
from hpo.reports import plain
from hpo.reports.compared import compare
from hpo.spec import Study
from hpo.storage.ledger import Ledger


def typed(ledger: Ledger, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", *arguments, "--storage", ledger.url])


def test_csv_has_one_line_an_arm(ledger: Ledger) -> None:
    rows = list(csv.DictReader(io.StringIO(typed(ledger, "digits", "--format", "csv").output)))
    arms = compare(ledger, "digits")["arms"]
    assert [row["label"] for row in rows] == [arm["label"] for arm in arms]
    for row, arm in zip(rows, arms, strict=True):
        assert (row["test_loss"], row["best_trial"]) == tuple(
            "" if arm[key] is None else str(arm[key]) for key in ("test_loss", "best_trial")
        )
        assert float(row["gradient_evaluations"]) == arm["cost"]["gradient_evaluations"]


def test_markdown_is_two_tables_under_the_headline(empty: Ledger, study: Study) -> None:
    names = ["drmad", "tpe", "random"]
    several(
        empty, study, "A", "digits", {name: [0.1 * (i + 1) + s / 100 for s in range(8)] for i, name in enumerate(names)}
    )
    headline, methods, pairs, cautions = typed(empty, "A", "--format", "markdown").output.strip().split("\n\n")
    assert cautions == "- 24 of 24 arms are not finished: these figures will change."
    assert headline.startswith("**A**: So far drmad is better than each of the other 2 methods")
    assert methods.splitlines()[1:3] == [
        "|---|--:|--:|--:|--:|--:|--:|", "| drmad | 1.00 | 0.1350 | 0.1350 | 90.0% | 600 | 2.5 s |",
    ]  # fmt: skip
    assert [line.split(" | ")[:3] for line in pairs.splitlines()[2:]] == [
        ["| drmad", "tpe", "8/0/0"], ["| drmad", "random", "8/0/0"],
    ]  # fmt: skip
    assert "| -0.1 (-0.1 … -0.1) | 42.6% (" in pairs
    assert {line.count("|") for line in pairs.splitlines()} == {9}
    assert len(typed(empty, "A", "--format", "markdown", "--all-pairs").output.strip().splitlines()) == 15


def test_of_several_data_sets_each_has_a_line(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1], "random": [0.2]})
    several(empty, study, "B", "wine", {"random": [0.1], "tpe": [0.2]})
    lines = typed(empty, "A", "B", "--format", "markdown").output.splitlines()
    start = lines.index("| median test loss on | drmad | random | tpe |")
    assert lines[start + 1 : start + 4] == [
        "|---|--:|--:|--:|", "| digits | **0.1000** | 0.2000 | – |", "| wine | – | **0.1000** | 0.2000 |",
    ]  # fmt: skip


def test_many_studies_are_not_all_in_the_headline(empty: Ledger, study: Study) -> None:
    names = [f"s{i}" for i in range(5)]
    for name in names:
        several(empty, study, name, f"{name}.csv", {"drmad": [0.1], "tpe": [0.2]})
    assert compare(empty, *names)["studies"] == names
    assert typed(empty, *names, "--format", "markdown").output.startswith("**s0 and 4 other studies**: ")
    assert typed(empty, *names[:4], "--format", "markdown").output.startswith("**s0, s1, s2, s3**: ")


def test_markdown_survives_what_is_not_there(empty: Ledger, study: Study) -> None:
    methods = [{"name": "random", "label": "one|two"}]
    empty.begin(Study.model_validate(study.canonical() | {"methods": methods, "seeds": 1}), {})
    text = plain.markdown(compare(empty, "digits"))
    assert "| one\\|two | – | – | – | – | 0 | 0.0 s |" in text
    assert "reduction" not in text


def test_json_is_one_object_for_any_number_of_studies(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1], "random": [0.2]})
    several(empty, study, "B", "wine", {"drmad": [0.1], "random": [0.2]})
    found = json.loads(typed(empty, "A", "B", "--json").output)
    assert found == json.loads(typed(empty, "A", "B", "--format", "json").output)
    assert (found["study"], [d["name"] for d in found["data"]]) == ("A, B", ["digits", "wine"])
    assert "A, B" in typed(empty, "A", "B").output


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "json"])
def test_an_unknown_study_is_answered_with_the_nearest(ledger: Ledger, form: str) -> None:
    result = typed(ledger, "digits", "digit", "--format", form)
    assert (result.exit_code, result.output.strip()) == (
        2, "hpo: unknown study 'digit': use one of digits; did you mean 'digits'?",
    )  # fmt: skip
