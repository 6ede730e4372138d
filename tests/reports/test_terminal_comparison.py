"""What a person reads of a comparison: the table, the sentences, the chart."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from recording import record
from test_compared import several
from test_terminal import joined, printed, row

from hpo.reports import chart, terminal_comparison
from hpo.reports.compared import compare
from hpo.spec import Study
from hpo.storage.ledger import Ledger

show = terminal_comparison.show


def told(ledger: Ledger, *names: str, **options: Any) -> str:
    return joined(printed(partial(show, **options), compare(ledger, *names)))


def finish(ledger: Ledger, *studies: str) -> None:
    for name in studies:
        for arm in ledger.arms(name):
            ledger.finish(name, arm.label, "complete")


def test_compare(ledger: Ledger) -> None:
    ledger.finish("digits", "random/1", "failed")
    text = printed(show, compare(ledger, "digits"))
    assert row(text, "drmad ") == [
        "drmad", "1.00", "0.4000", "0.3000…0.5000", "0.3000", "90.0%", "2", "1200", "5.0", "s",
    ]  # fmt: skip
    assert row(text, "random ")[:6] == ["random", "2.75", "–", "–", "–", "–"]
    sentences = joined(text)
    assert "Rank: mean over 2 seeds, by the test loss of the trial with the lowest validation loss." in sentences
    assert "So far drmad has the best mean rank, but 2 seeds cannot show that this is more than chance." in sentences
    assert "drmad against tpe-global: lower test loss on 2 of 2 seeds." in sentences
    assert "drmad against random: lower test loss on 2 of 2 seeds." in sentences
    assert "a signed-rank test needs 7 or more (seeds: 7)" in sentences
    assert "3 of 6 arms are not finished: these figures will change." in sentences
    assert "random has no usable trial on 2 of 2 seeds: last there." in sentences
    assert "Spending differs" not in sentences  # on no seed have all arms ended
    assert "--all-pairs prints" in sentences


def test_long_names_fit_in_eighty_columns(empty: Ledger, study: Study) -> None:
    name = "tpe-with-a-very-long-label-indeed[bold]"
    methods = [{"name": "tpe", "label": name}, "random"]
    empty.begin(Study.model_validate(study.canonical() | {"methods": methods}), {})
    record(empty, f"{name}/0", 0, 123456.789, 0.000012345)
    found = compare(empty, "digits")
    assert "1.235e+05" in printed(show, found)
    assert f"{name} against random" in joined(printed(show, found, width=200))
    assert "| tpe-with" not in printed(partial(show, all_pairs=True), found)


@pytest.mark.parametrize(
    ("seeds", "headline", "said"),
    [
        (8, "drmad is better than each of the other 2 methods: its test loss is 50.0% to 66.7% lower in the median, "
            "p ≤ 0.023 after Holm's correction.", "p = 0.00781, 0.0234 after Holm's correction: more than chance."),
        (6, "drmad has the best mean rank, but it is not shown to be better than any of the other 2 methods.",
            "p = 0.0312, 0.0938 after Holm's correction: may be chance."),
    ],
)  # fmt: skip
def test_what_the_test_says(empty: Ledger, study: Study, seeds: int, headline: str, said: str) -> None:
    empty.begin(Study.model_validate(study.canonical() | {"seeds": list(range(seeds))}), {})
    for seed in range(seeds):
        for arm, loss in {"drmad": 0.1, "tpe-global": 0.2, "random": 0.3}.items():
            record(empty, f"{arm}/{seed}", 0, loss, loss + seed / 100 * loss)
    finish(empty, "digits")
    text = told(empty, "digits")
    assert headline in text
    assert f"drmad against tpe-global: lower test loss on {seeds} of {seeds} seeds, median difference -0.10" in text
    assert "(95 % interval -0.10" in text
    assert said in text
    assert ("cannot show" in text) == (seeds < 7)
    assert "not finished" not in text
    assert "Spending differs" not in text
    assert ("Within its budget tpe-global does not get there." in text) == (seeds == 8)  # else it may be chance
    beside = f"tpe-global (mean ranks over {seeds} seeds, critical difference"
    assert ("Not told apart from drmad by rank: " + beside in text) == (seeds < 11)


def test_the_headline_names_those_that_may_be_as_good(empty: Ledger, study: Study) -> None:
    losses = {
        "drmad": [0.1] * 10,
        "gp": [0.1] * 9 + [0.2],
        "tpe": [0.2] * 10,
        "random": [0.3] * 10,
        "skopt-gp": [0.4] * 10,
    }
    several(empty, study, "A", "digits", losses)
    finish(empty, "A")
    text = told(empty, "A")
    assert (
        "drmad has the best mean rank and is better than 3 of the other 4 methods (its test loss is 50.0% to 75.0%"
        in text
    )
    assert "it is not told apart from gp." in text
    assert "drmad against gp: lower test loss on 1 of 10 seeds (9 equal)" in text
    assert "1 more method ranks behind these." in text
    assert "drmad against skopt-gp" not in text


def test_two_methods_need_no_other_words(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1] * 10, "random": [0.2] * 10})
    several(empty, study, "B", "digits", {"drmad": [0.1, 0.3] * 5, "random": [0.2] * 9 + [0.4]})
    several(empty, study, "C", "digits", {"drmad": [0.0] * 10, "random": [0.0] * 3 + [-1.0] * 7})
    finish(empty, "A", "B", "C")
    assert "drmad is better than random: its test loss is 50.0% lower in the median, p ≤ 0.002 after" in told(
        empty, "A"
    )
    assert "--all-pairs" not in told(empty, "A")
    assert "drmad has the best mean rank, but it is not shown to be better than random." in told(empty, "B")
    assert "random is better than drmad: p ≤ 0.016 after Holm's correction." in told(empty, "C")


def test_several_studies(empty: Ledger, study: Study) -> None:
    several(empty, study, "A", "digits", {"drmad": [0.1, 0.2], "random": [0.2, 0.4]})
    several(empty, study, "B", "wine", {"drmad": [2.0, 1.0], "random": [4.0, 4.0]})
    text = told(empty, "A", "B", all_pairs=True)
    assert "A, B" in text
    assert "lower test loss on 4 of 4 pairs of data set and seed" in text
    assert "; by data set, the median over its seeds, on 2 of 2, median difference" in text
    assert "2 data sets cannot show that a difference is more than chance" in text
    assert "A loss is a share of the defaults' test loss on the same data and seed." in text
    assert "median test loss on seeds drmad random digits 2 0.1500* 0.3000 wine 2 1.500* 4.000" in text
    assert "drmad random 4 of 4 0" in text


def test_nothing_to_compare(empty: Ledger, study: Study) -> None:
    empty.begin(study, {})
    assert "No finished trials yet: nothing to compare." in told(empty, "digits")
    empty.begin(Study.model_validate(study.canonical() | {"methods": ["drmad"], "name": "alone", "seeds": 1}), {})
    text = told(empty, "alone")
    assert "One method: nothing to compare it with." in text
    assert "Ranks are over 0 of 1 seed: those all methods have." in text


def test_the_chart_is_drawn_where_something_changes_and_there_is_room(ledger: Ledger) -> None:
    found = compare(ledger, "digits")
    text = printed(show, found)
    assert "Median test loss of the best trial so far, over gradient evaluations: ● drmad ○ tpe-global" in joined(text)
    assert "│" in text
    assert "│" not in printed(show, found, width=50)


def test_a_chart_by_hand() -> None:
    lines = chart.chart([0, 1, 2], {"a": [None, 1.0, 0.1], "b": [1.0, 1.0, 1.0]}, 60)
    assert len(lines) == chart.ROWS + 2
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].startswith(" 1.000 │○")
    assert "○●" in lines[0]  # a begins later, and lies on top
    assert lines[0].endswith("●○")
    assert lines[-3].startswith("0.1000 │")
    assert lines[-3].endswith("●")
    assert lines[4].startswith("0.2683 │")  # 0.1 · 10^(3/7), as the scale is logarithmic
    assert lines[-1].split() == ["0", "2"]
    below = chart.chart([0, 1], {"a": [1.0, -1.0]}, 60)
    assert below[4].startswith("-0.1429 │")


@pytest.mark.parametrize(
    ("at", "curves", "width"),
    [
        ([0, 1], {}, 80), ([0, 1], {"a": [None, None]}, 80), ([0, 1], {"a": [1.0, 1.0]}, 80),
        ([5], {"a": [1.0], "b": [2.0]}, 80), ([0, 1], {"a": [1.0, 0.5]}, 59),
    ],
)  # fmt: skip
def test_no_chart(at: list[float], curves: dict[str, list[float | None]], width: int) -> None:
    assert chart.chart(at, curves, width) == []


def test_no_more_than_five_methods_are_drawn() -> None:
    curves: dict[str, list[float | None]] = {str(i): [float(i + 1), 0.5] for i in range(8)}
    text = "".join(chart.chart([0, 1], curves, 80))
    assert all(mark in text for mark in chart.MARKS)
    assert chart.legend(list(curves)).split() == [part for i, mark in enumerate(chart.MARKS) for part in (mark, str(i))]
