"""The page: every number on it can be had from the database by SQL; nothing a study holds leaves it blank or broken."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import page_study
import pytest
from click.testing import CliRunner
from reading_pages import Page

from hpo.cli import main
from hpo.reports import page
from hpo.reports.figures import draw
from hpo.reports.gathering import gather
from hpo.storage.ledger import Ledger

SELECTED = """
    SELECT s.name, a.label, a.title, a.seed, t.number, t.validation_loss, t.test_loss, t.test_accuracy,
           a.trainings, a.gradient_evaluations, a.seconds
    FROM hpo_arm a JOIN hpo_study s ON s.id = a.study_id JOIN hpo_trial t ON t.arm_id = a.id
    WHERE t.state = 'complete' AND t.origin IS NULL AND t.validation_loss IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM hpo_trial better WHERE better.arm_id = a.id AND better.state = 'complete'
        AND (better.validation_loss < t.validation_loss
             OR better.validation_loss = t.validation_loss AND better.number < t.number))
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hpo.db'}"


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[str], list[tuple[Any, ...]]]:
    """The answer of plain SQL."""

    def ask(question: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(tmp_path / "hpo.db") as connection:
            found = connection.execute(question).fetchall()
        connection.close()
        return found

    return ask


def read(url: str, *names: str) -> Page:
    with Ledger.open(url, create=False) as ledger:
        contents = gather(ledger, names)
    return Page(page.rendered(contents, draw(contents)))


def filled(url: str, *args: Any, **changes: Any) -> None:
    with Ledger.open(url) as ledger:
        page_study.fill(ledger, *args, **changes)


def test_the_table_of_arms_is_what_sql_says(url: str, rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    filled(url, "digits")
    _, *shown = read(url, "digits").tables["arms-table"]
    expected = {row[1]: row for row in rows(SELECTED)}
    assert len(shown) == len(expected) == 18
    for attributes, cells in shown:
        _, label, _, _, number, *figures = expected[attributes["data-arm"]]
        assert (attributes["data-study"], attributes["data-trial"]) == ("digits", str(number))
        assert cells[0] == label
        assert cells[3:] == [number, *figures]


def test_the_table_of_methods_is_what_sql_says(url: str, rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    filled(url, "digits")
    _, *shown = read(url, "digits").tables["methods-table"]
    by_method: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows(SELECTED):
        by_method.setdefault(row[2], []).append(row)
    assert {attributes["data-method"] for attributes, _ in shown} == set(by_method)
    losses = {title: {row[3]: row[6] for row in arms} for title, arms in by_method.items()}
    for attributes, cells in shown:
        title = attributes["data-method"]
        arms = by_method[title]
        ranks = [1 + sum(other[seed] < loss for other in losses.values()) for seed, loss in losses[title].items()]
        assert cells[1] == pytest.approx(sum(ranks) / len(ranks))
        assert [cells[2], cells[4], cells[5]] == pytest.approx([median(row[i] for row in arms) for i in (6, 5, 7)])
        assert cells[6:9] == pytest.approx([sum(row[i] for row in arms) / len(arms) for i in (8, 9, 10)])


def test_every_curve_ends_where_sql_says(url: str, rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    filled(url, "digits")
    figures = read(url, "digits").figures
    found = rows(SELECTED)
    for part, column in (("test", 6), ("validation", 5)):
        for unit in ("trainings", "gradient-evaluations", "seconds"):
            lines = {t["name"]: t for t in figures[f"best-so-far-{part}-{unit}"]["data"] if "name" in t}
            assert set(lines) == {row[2] for row in found}
            for title, line in lines.items():
                expected = median(row[column] for row in found if row[2] == title)
                assert line["y"][-1] == pytest.approx(expected, rel=1e-3)


def test_the_failures_are_what_sql_says(url: str, rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    filled(url, "digits")
    found = read(url, "digits")
    _, *shown = found.tables["failures-table"]
    counted = rows("SELECT title, t.state, count(*) FROM hpo_trial t JOIN hpo_arm a ON a.id = t.arm_id "
                   "WHERE failure IS NOT NULL GROUP BY title, t.state")  # fmt: skip
    assert sorted((cells[0].strip(), cells[1], cells[2]) for _, cells in shown) == sorted(counted)
    assert "<b>&" in found.text  # what a reason says is text, never markup


def test_the_image_of_every_meta_iteration_is_in_the_page(url: str) -> None:
    filled(url, "digits")
    found = read(url, "digits")
    [held] = found.frames.values()
    values = np.frombuffer(base64.b64decode(held["values"]), "<i2").reshape(len(held["numbers"]), *held["shape"]) / 1000
    [section] = [s for s in found.sections if "data-arm" in s]
    with Ledger.open(url) as ledger:
        trials = {t.number: t for t in ledger.trials("digits", section["data-arm"])}
    assert held["numbers"] == [0, 1, 4]  # those that ended well
    assert held["numbers"][held["shown"]] == int(section["data-trial"]) == 4
    for number, image in zip(held["numbers"], values, strict=True):
        pixels = trials[number].proposal.values["l2"][: page_study.SIDE**2]
        assert 10 ** image.ravel() == pytest.approx(pixels, rel=2e-3)
    [drawn] = found.figures["descent-0-pixels"]["data"]
    assert np.array(drawn["z"]) == pytest.approx(values[held["shown"]], abs=1e-3)
    assert drawn["zmid"] == -3
    assert drawn["zmax"] + drawn["zmin"] == pytest.approx(2 * drawn["zmid"])


def test_columns_of_a_table_have_their_names(url: str) -> None:
    filled(url, "table", inputs=page_study.TABLE)
    found = read(url, "table")
    [drawn] = found.figures["descent-0-columns"]["data"]
    assert sorted(row[0] for row in drawn["text"]) == sorted(page_study.TABLE.names or ())
    assert found.frames == {}
    assert "descent-0-pixels" not in found.figures


def test_the_page_needs_nothing_from_elsewhere(url: str) -> None:
    filled(url, "digits")
    found = read(url, "digits")
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert found.scripts["script"].count("plotly.js v") == 1


def test_what_it_says_to_reproduce_it(url: str) -> None:
    filled(url, "digits")
    found = read(url, "digits")
    assert "hpo run digits.yaml\nhpo compare digits\nhpo report digits -o digits.html" in found.text
    assert "python 3.11, hpo 0.1." in found.text
    assert "gradient_evaluations: 6000" in found.text
    assert "Agreement with the exact hypergradient was not computed" in found.text
    assert "1 of 18 arms are not finished" in found.text


def test_why_there_is_no_agreement_to_see(url: str) -> None:
    filled(url, "digits")
    with Ledger.open(url, create=False) as ledger:
        contents = gather(ledger, ["digits"])
    [panel] = contents["panels"]["panels"]
    said = {}
    for asked, possible in ((False, False), (False, True), (True, True)):
        panel |= {"agreement_asked": asked, "agreement_possible": possible}
        text = Page(page.rendered(contents, draw(contents))).text
        said[asked, possible] = (
            "agreement: true in its method does" in text,
            "no exact pass of this arm was finite" in text,
        )
    assert said == {(False, False): (False, False), (False, True): (True, False), (True, True): (False, True)}


def one_arm(ledger: Ledger) -> None:
    page_study.fill(ledger, "s", methods=["drmad"], seeds=1)


def one_trial(ledger: Ledger) -> None:
    page_study.fill(ledger, "s", trials=1, methods=["random"], seeds=1)


def nothing_yet(ledger: Ledger) -> None:
    ledger.begin(page_study.study("s"), {})


def only_running(ledger: Ledger) -> None:
    page_study.fill(ledger, "s", trials=0)


def only_failures(ledger: Ledger) -> None:
    nothing_yet(ledger)
    with ledger.attend("s", 1) as lease:
        for arm in ledger.arms("s"):
            ledger.describe("s", arm.label, page_study.GLOBAL, {})
            proposal = page_study.Proposal(0, {"l2": np.array([1e-3])})
            claim = ledger.claim(lease, arm.label, proposal, 0.0, page_study.FREE)
            assert claim is not None
            ledger.close_trial(claim, page_study.Outcome("failed", np.nan, np.nan, failure="out of memory"))
            ledger.finish("s", arm.label, "failed")


def regression(ledger: Ledger) -> None:
    page_study.fill(ledger, "s", problem={"data": "diabetes"}, inputs=page_study.InputRow((10,)))


@pytest.mark.parametrize("fill", [one_arm, one_trial, nothing_yet, only_running, only_failures, regression])
def test_any_state_of_a_study_has_a_page(url: str, fill: Callable[[Ledger], None]) -> None:
    with Ledger.open(url) as ledger:
        fill(ledger)
    found = read(url, "s")
    assert len(found.tables["methods-table"]) > 1
    assert len(found.tables["arms-table"]) > 1
    assert not any(word in found.text for word in ("None", "nan", "undefined"))
    assert ("No trials yet." in found.text) == (fill is nothing_yet)


def test_several_studies(url: str) -> None:
    filled(url, "a", trials=2)
    filled(url, "b", trials=2, problem={"data": "wine"}, inputs=page_study.TABLE)
    found = read(url, "a", "b")
    assert [attributes["data-data"] for attributes, _ in found.tables["data-table"][1:]] == ["digits", "wine"]
    assert {attributes["data-study"] for attributes, _ in found.tables["arms-table"][1:]} == {"a", "b"}
    assert [s["data-study"] for s in found.sections if "data-arm" in s] == ["a", "b"]
    assert "hpo compare a b" in found.text


def test_a_long_arm_is_thinned(url: str) -> None:
    filled(url, "s", methods=["drmad", "random"], seeds=3)
    page_study.multiply(url, 100)
    figures = read(url, "s").figures
    bars = sum(len(trace["x"]) for trace in figures["timeline"]["data"])
    assert 100 < bars <= 1_500
    assert "failed" in {trace["name"] for trace in figures["timeline"]["data"]}
    assert all(len(trace["x"]) <= 100 for trace in figures["best-so-far-test-seconds"]["data"])
    assert all(len(trace["x"]) <= 41 for trace in figures["descent-0-norm"]["data"])
    small = {name: figure for name, figure in figures.items() if len(json.dumps(figure)) < 300_000}
    assert small == figures


def test_the_command(url: str, tmp_path: Path) -> None:
    filled(url, "digits", trials=2)
    file = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", "digits", "-o", str(file), "--storage", url])
    assert (done.exit_code, done.output) == (0, f"{file}: {file.stat().st_size / 1e6:.1f} MB. Open it in a browser.\n")
    assert Page(file.read_text()).tables["methods-table"]


def test_faults_of_the_command(url: str, tmp_path: Path) -> None:
    filled(url, "digits", trials=1)

    def said(*options: str) -> str:
        done = CliRunner().invoke(main, ["report", *options, "--storage", url])
        assert done.exit_code == 2
        return done.output

    assert said("digits") == "hpo: give -o FILE for a page, --figures DIR for pictures, or both\n"
    assert "unknown study 'digit'" in said("digit", "-o", str(tmp_path / "page.html"))
    missing = tmp_path / "no" / "page.html"
    assert f"{missing}: cannot be written" in said("digits", "-o", str(missing))
