"""Tables and lines for a terminal of 80 columns or more, or for a file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text


def table(*columns: str) -> Table:
    """Columns by heading; one that ends in '>' is a number, to the right and never broken."""
    made = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        number = column.endswith(">")
        made.add_column(
            column.removesuffix(">"), justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    return made


def row(table: Table, *cells: object) -> None:
    """Adds one; nothing in it is taken for markup."""
    table.add_row(*(Text(str(cell)) for cell in cells))


def lines(texts: Sequence[str]) -> list[Text]:
    return [Text(text) for text in texts]
