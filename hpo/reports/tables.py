"""Tables and lines for a terminal of 80 columns or more, or for a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from textwrap import fill
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

WORD = 20
"""Characters of a word that is not broken, however narrow the terminal is; a figure never is."""

HEADING = 16
"""Characters of a line above figures."""


class Screen(Console):
    """Cuts nothing off: a table that the terminal is too narrow for is printed as wide as it must be."""

    def print(self, *objects: Any, **how: Any) -> None:
        how.setdefault("crop", False)
        super().print(*objects, **how)

    def on_broken_pipe(self) -> None:
        """Says no more; what is being done is done to its end, as nobody's reading it is no failure of it."""
        self.quiet = True
        unread()


class Whole(Table):
    """A table that is never narrower than its figures and words."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = sum(column.min_width or 0 for column in self.columns) + len(self.columns)
        return super().__rich_console__(console, options.update(max_width=max(options.max_width, least)))


def unread() -> None:
    """What is still to be written to the output, whose reader has gone, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def table(*columns: str) -> Table:
    """Columns by heading; one that ends in '>' is a number, to the right and never broken."""
    made = Whole(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        number, heading = column.endswith(">"), column.removesuffix(">")
        if number:
            heading = "\n".join(fill(line, HEADING) for line in heading.splitlines())
        made.add_column(Text(heading), justify="right" if number else "left", no_wrap=number, overflow="fold")
        _widen(made.columns[-1], heading)
    return made


def row(table: Table, *cells: object) -> None:
    """Adds one; nothing in it is taken for markup."""
    texts = [str(cell) for cell in cells]
    for column, text in zip(table.columns, texts, strict=True):
        _widen(column, text)
    table.add_row(*map(Text, texts))


def lines(texts: Sequence[str]) -> list[Text]:
    return [Text(text) for text in texts]


def _widen(column: Column, text: str) -> None:
    """Give it the room that this text needs at least."""
    whole = text.splitlines() if column.no_wrap else [word for word in text.split() if word[0].isdigit()]
    words = [] if column.no_wrap else text.split()
    needs = [*(Text(part).cell_len for part in whole), *(min(Text(word).cell_len, WORD) for word in words)]
    column.min_width = max(column.min_width or 0, *needs, 0)
