"""A page read back: its tables with what their rows and cells say of themselves, its figures, its texts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """`tables`: id → rows of (attributes, [value or text of each cell]); `scripts`: id → text; `text`: what is read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[tuple[dict[str, str], list[Any]]]] = {}
        self.scripts: dict[str, str] = {}
        self.sections: list[dict[str, str]] = []
        self.links: list[str] = []
        self.text = ""
        self._table: str | None = None
        self._value: str | None = None
        self._script: str | None = None
        self._cell = False
        self.feed(html)

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(self.scripts["figures"])

    @property
    def frames(self) -> dict[str, Any]:
        return json.loads(self.scripts["frames"])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.links += [given[key] for key in ("src", "href") if key in given]
        if tag in ("script", "style"):
            self._script = given.get("id", tag)
        elif tag == "table":
            self._table = given.get("id")
            if self._table:
                self.tables[self._table] = []
        elif tag == "details":
            self.sections.append(given)
        elif self._table and tag == "tr":
            self.tables[self._table].append((given, []))
        elif self._table and tag in ("td", "th"):
            self._value, self._cell = given.get("data-value"), True
            self.tables[self._table][-1][1].append("" if self._value is None else float(self._value))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._script = None
        elif tag == "table":
            self._table = None
        elif tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
            return
        self.text += data
        if self._table and self._cell and self._value is None:
            self.tables[self._table][-1][1][-1] += data
