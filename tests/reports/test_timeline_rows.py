"""The timeline: who trained what and when, in as few rows as overlaps allow, thinned where there is too much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from hpo.reports.slots import MOST, Placed, timeline
from hpo.storage.records import TrialRecord
from hpo.trial import Cost, TrialState

START = datetime(2026, 1, 1, tzinfo=UTC)


def placed(
    number: int,
    begin: float,
    end: float | None,
    lease: int | None = 1,
    title: str = "a",
    state: TrialState = "complete",
    origin: str | None = None,
) -> Placed:
    opened, closed = START + timedelta(seconds=begin), None if end is None else START + timedelta(seconds=end)
    record = TrialRecord(
        number, state, None, {}, 0.1, 0.1, None, Cost(), 0.0, None, {}, opened, closed, origin, lease
    )  # fmt: skip
    return Placed("study", f"{title}/0", title, record)


def laid(*trials: Placed) -> tuple[list[str], list[tuple[Any, ...]]]:
    found = timeline(trials)
    return found["rows"], [(m["row"], m["from"], m["to"], m["number"]) for m in found["marks"]]


def test_trials_that_overlap_have_rows_of_their_own() -> None:
    rows, marks = laid(placed(0, 0, 10), placed(1, 5, 15), placed(2, 10, 20), placed(3, 16, 18))
    assert rows == ["run 1, 1 of 2 at once", "run 1, 2 of 2 at once"]
    assert marks == [(0, 0, 10, 0), (0, 10, 20, 2), (1, 5, 15, 1), (1, 16, 18, 3)]


def test_runs_have_rows_of_their_own_and_what_no_run_has_comes_last() -> None:
    rows, marks = laid(placed(0, 0, 1, lease=7), placed(1, 2, 9, lease=9), placed(2, 0, None, lease=None))
    assert rows == ["run 1", "run 2", "waiting"]
    assert marks == [(0, 0, 1, 0), (1, 2, 9, 1), (2, 0, 9, 2)]  # what runs ends where the last thing was seen


def test_what_a_branched_study_began_with_was_trained_before() -> None:
    trials = [placed(0, 0, 1, lease=None), placed(1, 2, 9, lease=9), placed(2, 3, None, lease=None)]
    rows = timeline(trials, branched=["study"])["rows"]
    assert rows == ["from the study it branched from", "run 1", "waiting"]
    assert timeline(trials)["rows"] == ["a run not recorded", "run 1", "waiting"]


def test_what_was_imported_was_not_trained_here() -> None:
    assert laid(placed(0, 0, 1), placed(1, 500, 501, origin="elsewhere"))[1] == [(0, 0, 1, 0)]
    assert timeline([])["marks"] == timeline([placed(0, 0, 1, origin="elsewhere")])["marks"] == []


@pytest.mark.parametrize(
    ("seconds", "unit", "end"),
    [(0, "seconds", 0), (240, "seconds", 240), (3000, "minutes", 50), (36_000, "hours", 10), (8_640_000, "days", 100)],
)
def test_the_clock_fits_the_time(seconds: float, unit: str, end: float) -> None:
    found = timeline([placed(0, 0, seconds)])
    assert (found["unit"], found["marks"][0]["to"]) == (unit, end)


def test_too_many_trials_share_bars_by_kind() -> None:
    states: list[TrialState] = ["complete", "complete", "complete", "failed"]
    trials = [placed(i, i, i + 1, title="ab"[i % 2], state=states[i % 4]) for i in range(20_000)]
    found = timeline(trials)
    marks = found["marks"]
    assert MOST / 2 < len(marks) <= MOST
    assert sum(m["count"] for m in marks) == 20_000
    for title, state, share in (("a", "complete", 0.5), ("b", "complete", 0.25), ("b", "failed", 0.25)):
        time = sum(m["to"] - m["from"] for m in marks if (m["title"], m["state"]) == (title, state))
        assert time == pytest.approx(share * max(m["to"] for m in marks), rel=0.01)
    assert all(before["to"] <= after["from"] + 1e-3 for before, after in pairwise(marks))
