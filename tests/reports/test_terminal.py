"""What a person reads, at 80 columns and without a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from recording import record
from rich.console import Console

from hpo.reports import listing, tables, terminal
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


def test_long_names_fit_in_eighty_columns(empty: Ledger, study: Study) -> None:
    name = "tpe-with-a-very-long-label-indeed[bold]"
    methods = [{"name": "tpe", "label": name}, "random"]
    empty.begin(Study.model_validate(study.canonical() | {"methods": methods, "name": "digits"}), {})
    record(empty, f"{name}/0", 0, 123456.789, 0.000012345)
    for view, report in (
        (terminal.show, listing.show(empty, "digits")),
        (terminal.studies, listing.studies(empty)),
    ):
        printed(view, report)


def test_headings_and_cells_are_no_markup() -> None:
    made = tables.table("[red]x[/red] [/]>", "[/]")
    tables.row(made, 588, "[bold]")
    assert printed(lambda console, table: console.print(table), made).split() == [
        "[red]x[/red]", "[/]", "[/]", "588", "[bold]",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1, 20, 40, 80])
def test_no_figure_is_cut_or_broken(empty: Ledger, study: Study, width: int) -> None:
    empty.begin(study, {})
    record(empty, "drmad/0", 0, 123456.789, 0.000012345)
    screen = tables.Screen(file=io.StringIO(), width=width)
    terminal.show(screen, listing.show(empty, "digits"))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert row(text, "drmad/0 ")[:5] == ["drmad/0", "–", "stopped", "1", "1.235e+05"]
    assert {"0.001…0.01…1", "0.05", "1.234e-05"} <= set(text.split())
    assert max(map(len, text.splitlines())) <= max(width, 74)
