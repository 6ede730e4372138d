"""A line for each slot: what runs there, since when, how much longer, and what it holds."""

import io
import os
import re

import pytest
import studies_small
from rich.console import Console

from hpo import evaluation
from hpo.arm import ArmRun, strategy_for
from hpo.execution.packing import Card
from hpo.execution.place import Place
from hpo.progress import Bars
from hpo.trial import Cost, Outcome, Proposal, Trial
from hpo.under_way import LINES, UnderWay


@pytest.fixture(scope="module")
def arms():
    study = studies_small.study()
    found = []
    for arm in study.arms():
        plan = evaluation.plan(study, arm, None)
        found.append(ArmRun(arm, plan, strategy_for(arm, plan), study.budget))
    return found


def lines(shown):
    text = io.StringIO()
    Console(file=text, width=120, color_system=None).print(shown)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def test_a_slot_tells_what_runs_since_when_and_what_it_holds(arms):
    shown = UnderWay()
    shown.placed(arms[0], 3, Place(0, os.getpid()))
    shown.placed(arms[1], 0, Place(1, None))
    first, second = lines(shown)
    assert re.fullmatch(r"slot 0  drmad/0 trial 3 +\d+\.\d s +[\d.]+ [MG]iB", first)
    assert re.fullmatch(r"slot 1  random-global/0 trial 0 +\d+\.\d s", second)
    shown.closed(arms[0], 3)
    shown.closed(arms[0], 4)
    assert [line.split()[1] for line in lines(shown)] == ["1"]
    shown.closed(arms[1], 0)
    assert lines(shown) == []


def test_what_is_left_is_told_from_the_arms_earlier_trials(arms, monkeypatch):
    monkeypatch.setattr(arms[0], "closed", 4)
    monkeypatch.setattr(arms[0], "cost", Cost(4, 100.0, 240.0))
    shown = UnderWay()
    shown.placed(arms[0], 4, Place(0, None))
    assert re.search(r"(60\.0|59\.\d) s left", lines(shown)[0])


def test_several_trainings_in_a_slot_are_one_line(arms):
    shown = UnderWay()
    for number, arm in enumerate(arms[:3]):
        shown.placed(arm, number, Place(2, None))
    assert re.fullmatch(r"slot 2  3 trainings, drmad/0 trial 0 …  \d+\.\d s", *lines(shown))


def test_a_trial_that_moves_is_shown_where_it_is(arms):
    shown = UnderWay()
    shown.placed(arms[0], 0, Place(0, None))
    shown.placed(arms[0], 0, Place(5, None))
    assert [line.split()[1] for line in lines(shown)] == ["5"]


def test_cards_tell_what_is_in_use_and_are_not_asked_all_the_time(arms):
    asked = []

    def look():
        asked.append(1)
        return [Card("GPU-a", 80.0, 61.5), Card("GPU-b")]

    shown = UnderWay(look)
    shown.placed(arms[0], 0, Place(0, None, ("GPU-a", "GPU-b")))
    for _ in range(3):
        assert re.fullmatch(r"slot 0  drmad/0 trial 0  \d+\.\d s +card GPU-a: 18\.5 of 80\.0 GiB", *lines(shown))
    assert len(asked) == 1


def test_more_slots_than_a_screen_has_lines_are_counted(arms):
    shown = UnderWay()
    for number in range(LINES + 3):
        shown.placed(arms[0], number, Place(number, None))
    assert len(lines(shown)) == LINES + 1
    assert lines(shown)[-1] == "… and 3 more"


def test_a_terminal_shows_the_lines_below_the_bars(arms):
    text = io.StringIO()
    bars = Bars(Console(file=text, force_terminal=True, width=120, color_system=None, legacy_windows=False))
    proposal = Proposal(0, arms[0].plan.space.defaults(), None)
    bars.begun(studies_small.study(), arms)
    try:
        bars.opened(arms[0], proposal)
        bars.placed(arms[0], 0, Place(3, None))
        bars.live.refresh()
        assert "slot 3  drmad/0 trial 0" in text.getvalue().rsplit("tpe-layer/1", 1)[1]
        bars.closed(arms[0], Trial(proposal, Outcome("failed", float("nan"), float("nan"))))
    finally:
        bars.stop()
    assert "slot 3" not in text.getvalue().rsplit("tpe-layer/1", 1)[1]
