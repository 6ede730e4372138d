"""What the page says of methods against each other, rebuilt from plain SQL and SciPy: pairs, mean ranks, data sets."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import page_study
import pytest
from reading_pages import Page
from scipy import stats

from hpo.reports import page
from hpo.reports.figures import draw
from hpo.reports.gathering import gather
from hpo.storage.ledger import Ledger

TRIALS = """
    SELECT s.name, a.title, a.seed, t.state, t.validation_loss, t.test_loss, t.gradient_evaluations
    FROM hpo_arm a JOIN hpo_study s ON s.id = a.study_id JOIN hpo_trial t ON t.arm_id = a.id
    WHERE t.closed IS NOT NULL ORDER BY s.id, a.id, t.number
"""

Losses = dict[str, dict[str, dict[int, float]]]


class Arm:
    """The incumbents of an arm: what was spent when each came, and its test loss."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self.at, self.test, lowest, spent = [], [], np.inf, 0.0
        for *_, state, validation, test, cost in rows:
            spent += cost
            if state == "complete" and validation < lowest:
                lowest = validation
                self.at.append(spent)
                self.test.append(test)
        self.spent = spent

    def after(self, spent: float) -> float:
        return ([np.inf] + [test for at, test in zip(self.at, self.test, strict=True) if at <= spent])[-1]


def arms(tmp_path: Path) -> dict[tuple[str, str, int], Arm]:
    with closing(sqlite3.connect(tmp_path / "hpo.db")) as connection:
        rows = connection.execute(TRIALS).fetchall()
    keys = dict.fromkeys(row[:3] for row in rows)
    return {key: Arm([row for row in rows if row[:3] == key]) for key in keys}


def read(tmp_path: Path, *names: str) -> Page:
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db", create=False) as ledger:
        contents = gather(ledger, names)
    found = Page(page.rendered(contents, draw(contents)))
    assert all(sentence in found.text for sentence in contents["compared"]["verdict"])
    return found


def fill(tmp_path: Path, *args: Any, **changes: Any) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        page_study.fill(ledger, *args, **changes)


def holm(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(np.array(p_values)[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(1, steps)[np.argsort(order)].tolist()


def reached(curve: list[Arm], goal: float) -> float:
    """What half of the arms had spent when their median was at the goal or below."""
    points = sorted({at for arm in curve for at in arm.at})
    return next((at for at in points if median(arm.after(at) for arm in curve) <= goal), np.inf)


def test_the_pairs_are_what_sql_and_scipy_say(tmp_path: Path) -> None:
    fill(tmp_path, "digits")
    found = read(tmp_path, "digits")
    methods: dict[str, list[Arm]] = {}
    for (_, title, _), arm in arms(tmp_path).items():
        methods.setdefault(title, []).append(arm)
    shown = [row for table in ("pairs-table", "more-pairs-table") for row in found.tables[table][1:]]
    assert len(shown) == 3
    assert len(found.tables["pairs-table"]) == 1 + 2
    p_values = []
    for attributes, cells in shown:
        mine, theirs = methods[attributes["data-a"]], methods[attributes["data-b"]]
        a, b = (np.array([arm.test[-1] for arm in own]) for own in (mine, theirs))
        ranks = stats.rankdata(abs(a - b))
        p_values.append(stats.wilcoxon(a, b, method="exact").pvalue)
        assert cells[:2] == [attributes["data-a"], attributes["data-b"]]
        expected = [(a < b).sum(), np.median(a - b), np.median(1 - a / b), ranks @ np.sign(b - a) / ranks.sum()]
        assert cells[2:6] == pytest.approx(expected)
        assert cells[6] == pytest.approx(p_values[-1])
        goals = [median(arm.test[-1] for arm in own) for own in (mine, theirs)]
        more = reached(theirs, goals[0]) / reached(mine, goals[0])
        less = reached(mine, goals[1]) / max(arm.spent for arm in mine)
        assert cells[8] == (f"× {more:.3g}" if np.isfinite(more) else "never")
        assert cells[9] == (f"{100 * less:.1f} %" if np.isfinite(less) else "never")
    assert [cells[7] for _, cells in shown] == pytest.approx(holm(p_values))


def test_the_mean_ranks_of_the_critical_difference_are_what_sql_says(tmp_path: Path) -> None:
    fill(tmp_path, "digits")
    figure = read(tmp_path, "digits").figures["critical-difference"]
    by_seed: dict[int, dict[str, float]] = {}
    for (_, title, seed), arm in arms(tmp_path).items():
        by_seed.setdefault(seed, {})[title] = arm.test[-1]
    ranks = np.array([stats.rankdata(list(losses.values())) for losses in by_seed.values()]).mean(axis=0)
    expected = dict(zip(by_seed[0], ranks, strict=True))
    [dots] = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    titles = figure["layout"]["yaxis"]["ticktext"]
    assert dict(zip(titles, dots["x"], strict=True)) == pytest.approx(expected)
    assert dots["x"] == sorted(dots["x"])


def test_the_table_by_data_set_is_what_sql_says(tmp_path: Path) -> None:
    fill(tmp_path, "a", trials=2)
    fill(tmp_path, "b", trials=3, problem={"data": "wine"}, inputs=page_study.TABLE)
    (_, head), *shown = read(tmp_path, "a", "b").tables["data-table"]
    losses: dict[tuple[str, str], list[float]] = {}
    for (study, title, _), arm in arms(tmp_path).items():
        losses.setdefault(({"a": "digits", "b": "wine"}[study], title), []).append(arm.test[-1])
    assert {(attributes["data-data"], title) for attributes, _ in shown for title in head[1:]} == set(losses)
    for attributes, (name, *cells) in shown:
        assert name == attributes["data-data"]
        assert cells == pytest.approx([median(losses[name, title]) for title in head[1:]])
