"""What a person reads, at 80 columns and without a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from recording import record
from rich.console import Console

from hpo.reports import listing, terminal
from hpo.spec import Study
from hpo.storage.ledger import Ledger


def printed(view: Callable[[Console, Any], None], report: Any, width: int = 80) -> str:
    """As it stands in a file: no colours, no line wider than the page."""
    console = Console(file=io.StringIO(), width=width)
    view(console, report)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    return text


def row(text: str, start: str) -> list[str]:
    """The cells of the line that begins so."""
    return next(line for line in text.splitlines() if line.startswith(start)).split()


def joined(text: str) -> str:
    return " ".join(text.split())


def test_the_list(ledger: Ledger, empty: Ledger) -> None:
    assert row(printed(terminal.studies, listing.studies(ledger)), "digits")[-4:] == ["6", "8", "stopped", "0.2000"]


def test_an_empty_list_says_what_to_do() -> None:
    assert printed(terminal.studies, []) == "No studies yet: hpo run FILE starts one.\n"


def test_show(ledger: Ledger) -> None:
    text = printed(terminal.show, listing.show(ledger, "digits"))
    assert "digits, 600 steps of 100; l2 per neuron, learning_rate per global" in text
    assert "budget of an arm: 30 trainings; 2 seeds" in text
    assert row(text, "drmad/0 ") == ["drmad/0", "neuron", "complete", "4", "0.2000", "3", "1800", "7.5", "s"]
    assert "l2 0.001…0.01…1" in text
    assert "learning_rate 0.05" in text
    assert "diverged: the validation loss" in joined(text)
    assert "random/1:" not in text  # no trials, no table


def test_compare(ledger: Ledger) -> None:
    text = printed(terminal.compare, listing.compare(ledger, "digits"))
    assert row(text, "drmad ") == [
        "drmad", "1.00", "0.4000", "0.3000…0.5000", "0.3000", "90.0%", "2", "1200", "5.0", "s",
    ]  # fmt: skip
    assert row(text, "random ")[:6] == ["random", "2.75", "–", "–", "–", "–"]
    sentences = joined(text)
    assert "4 of 6 arms are not finished: these figures will change." in sentences
    assert "random has no usable trial on 1 of 2 seeds: ranked last there." in sentences
    assert "drmad against tpe-global: lower test loss on 2 of 2 seeds, median difference -0.1." in sentences
    assert "drmad against random: lower test loss on 2 of 2 seeds." in sentences
    assert "2 seeds cannot show that a difference is more than chance" in sentences
    assert "a signed-rank test needs 7 or more (seeds: 7)" in sentences


def test_long_names_fit_in_eighty_columns(empty: Ledger, study: Study) -> None:
    name = "tpe-with-a-very-long-label-indeed[bold]"
    methods = [{"name": "tpe", "label": name}, "random"]
    empty.begin(Study.model_validate(study.canonical() | {"methods": methods, "name": "digits"}), {})
    record(empty, f"{name}/0", 0, 123456.789, 0.000012345)
    for view, report in (
        (terminal.compare, listing.compare(empty, "digits")),
        (terminal.show, listing.show(empty, "digits")),
        (terminal.studies, listing.studies(empty)),
    ):
        printed(view, report)
    assert "1.235e+05" in printed(terminal.compare, listing.compare(empty, "digits"))
    assert f"{name} against random" in joined(printed(terminal.compare, listing.compare(empty, "digits"), width=200))


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (8, "p = 0.00781, 0.0234 after Holm's correction: more than chance."),
        (6, "p = 0.0312, 0.0938 after Holm's correction: may be chance."),
    ],
)
def test_what_the_test_says(empty: Ledger, study: Study, seeds: int, said: str) -> None:
    empty.begin(Study.model_validate(study.canonical() | {"seeds": list(range(seeds))}), {})
    for seed in range(seeds):
        for arm, loss in {"drmad": 0.1, "tpe-global": 0.2, "random": 0.3}.items():
            record(empty, f"{arm}/{seed}", 0, loss, loss + seed / 100 * loss)
            empty.finish("digits", f"{arm}/{seed}", "complete")
    text = joined(printed(terminal.compare, listing.compare(empty, "digits")))
    assert f"drmad against tpe-global: lower test loss on {seeds} of {seeds} seeds, median difference -0.10" in text
    assert "95 % interval -0." in text
    assert said in text
    assert ("cannot show" in text) == (seeds < 7)
    assert "not finished" not in text


def test_equal_results_are_counted(empty: Ledger, study: Study) -> None:
    empty.begin(study, {})
    for arm in empty.arms("digits"):
        record(empty, arm.label, 0, 0.5, 0.5)
    text = joined(printed(terminal.compare, listing.compare(empty, "digits")))
    assert "lower test loss on 0 of 2 seeds (2 equal), median difference +0." in text


def test_nothing_to_compare(empty: Ledger, study: Study) -> None:
    empty.begin(study, {})
    assert "No finished trials yet" in printed(terminal.compare, listing.compare(empty, "digits"))
    empty.begin(Study.model_validate(study.canonical() | {"methods": ["drmad"], "name": "alone", "seeds": 1}), {})
    text = printed(terminal.compare, listing.compare(empty, "alone"))
    assert "One method: nothing to compare it with." in text
    assert "mean over 1 seed," in text
