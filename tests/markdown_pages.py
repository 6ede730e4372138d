"""Reading the project's markdown: its files, code blocks, tables and headings."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "studies").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def shown(page: Path) -> str:
    """How a page is called in messages."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The contents of its fenced blocks in a language."""
    return [text for name, text in FENCED.findall(page.read_text(encoding="utf-8")) if name == language]


def code(page: Path) -> list[str]:
    """The lines of its code blocks, fenced or indented."""
    text = page.read_text(encoding="utf-8")
    fenced = [line for _, block in FENCED.findall(text) for line in block.splitlines()]
    return fenced + [line.strip() for line in FENCED.sub("", text).splitlines() if line.startswith("    ")]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^    .*$", "", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)


def sections(page: Path) -> dict[str, str]:
    """What stands under each heading, down to the next heading of any depth."""
    parts = re.split(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a text whose first cell is code: that name → the other cells."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    return {re.findall(r"`([^` ]+)", row[0])[0]: [cell.strip() for cell in row[1:]] for row in rows}


def code_cell(cell: str) -> str | None:
    """What a table cell says if it is one piece of code and nothing else."""
    found = re.fullmatch(r"`([^`]*)`", cell)
    return found[1] if found else None


def anchors(page: Path) -> set[str]:
    """The names under which its headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
