"""How the cost of a search grows, in time and memory: with workers, trials, values searched, and steps of a training.

    PYTHONPATH=.:tests python tests/benchmarks/growth.py [--quick] [--out studies/scheduling]

Every point is a process of its own, and is printed when it is there; `--out` takes the tables as growth.md and the
plots as growth.svg. A slope is d log y / d log x between the last two points, of what was added since the first where
that is much. Worse than linear is a slope above 1.1, and above 0.1 where the figure is that of one trial or one step.
What would take longer than is left is left out.
"""

from __future__ import annotations

# Only the standard library, here and in growth_plot: what this process holds would count as its children's peak.
import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from growth_plot import Line, Panel, slope, svg

POINT = Path(__file__).with_name("growth_point.py")
LIMIT, MOST = 15 * 60.0, 200.0
"""Seconds for all of it, and for one point."""

SLOPE = (
    "A slope is d log y / d log x between the last two points, of what was added since the first where that is much. "
    "Worse than linear: above 1.1, and above 0.1 where the figure is that of one trial or one step."
)

Rows = dict[str, list[dict[str, float]]]
"""The figures of every size, by method."""


class Plot(NamedTuple):
    """What stands in one panel: figures by their key, and what is worse than linear."""

    title: str
    keys: Sequence[str]
    worse: float = 1.1


class Axis(NamedTuple):
    """One thing that grows. `sizes` by method."""

    name: str
    across: str
    about: str
    sizes: dict[str, Sequence[int]]
    quick: Sequence[int]
    plots: Sequence[Plot]


DECADES = (100, 1_000, 10_000, 100_000)
AXES = (
    Axis(
        "workers",
        "workers",
        "200 trials of one training step each. start-up: until the first training runs; trial: of the whole study, "
        "per trial; workers MB: resident sets added up; own MB: what they and their server add to the machine, pages "
        "that several share counted once.",
        {"random": (1, 2, 4, 8)},
        (1, 2),
        (
            Plot("seconds until the first training", ["start-up s"]),
            Plot("seconds per trial", ["trial s"], 0.1),
            Plot("MB", ["parent MB", "workers MB", "own MB"]),
        ),
    ),
    Axis(
        "trials",
        "trials in the study",
        "Trials of one training step each, two values, on SQLite. trial: the mean of the last tenth.",
        {"random": (100, 1_000, 10_000), "tpe": (100, 300, 1_000)},
        (20, 40),
        (
            Plot("seconds per trial, last tenth", ["trial s"], 0.1),
            Plot("MB of the run", ["MB"]),
            Plot("MB of the database", ["database MB"]),
        ),
    ),
    Axis(
        "values",
        "values searched",
        "An L2 strength per weight, 20 steps of 50 rows, medians of five trials. hpo: ask, claim, close, tell and one "
        "checkpoint; training: the rest of a trial, its measuring and its derivative.",
        dict.fromkeys(("drmad", "random"), (10, *DECADES, 1_000_000)),
        (10, 1_000),
        (
            Plot("seconds of hpo per trial", ["hpo s"]),
            Plot("seconds of the training", ["training s"]),
            Plot("MB of the run", ["MB"]),
        ),
    ),
    Axis(
        "steps",
        "steps of the training",
        "One trial, 64-8-10 on digits, batch 50; drmad with its derivative.",
        dict.fromkeys(("random", "drmad"), DECADES),
        (20, 40),
        (
            Plot("seconds per step", ["step s"], 0.1),
            Plot("seconds of the trial", ["training s"]),
            Plot("MB of the run", ["MB"]),
        ),
    ),
)


def measured(axis: Axis, quick: bool, until: float, said: list[str]) -> Rows:
    """Size after size, each method, up to the first that takes too long; what is left out is added to `said`."""
    found: Rows = {}
    for method, sizes in axis.sizes.items():
        found[method], before, took, least = [], 1, 0.0, 0.0
        for size in axis.quick if quick else sizes:
            room = min(MOST, until - time.monotonic())
            try:
                expected = (took - least) * size / before
                if expected > room:
                    raise _LeftOut(f"left out, about {expected:.0f} s where {room:.0f} s are left")
                begun = time.monotonic()
                figures = _point(axis.name, method, size, room)
            except _LeftOut as reason:
                said.append(f"{method}, {size:,} {axis.across}: {reason}")
                print(said[-1], flush=True)
                break
            before, took = size, time.monotonic() - begun
            least = least or took  # loading everything, most of it
            found[method].append(figures)
            print(f"{_row(method, figures)} {took:.0f} s", flush=True)
    return found


class _LeftOut(Exception):
    """A point that is not there, and why."""


def _point(axis: str, method: str, size: int, room: float) -> dict[str, float]:
    command = [sys.executable, str(POINT), axis, method, str(size)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=room)
    except subprocess.TimeoutExpired as error:
        raise _LeftOut(f"stopped after {room:.0f} s") from error
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["without a word"])[-1]
        raise _LeftOut(f"failed with {ended.returncode}: {last}")
    return {"size": float(size), **json.loads(ended.stdout)}


def _row(method: str, figures: dict[str, float]) -> str:
    cells = [method, f"{figures['size']:,.0f}", *(f"{y:.3g}" if y < 100 else f"{y:,.0f}" for y in _figures(figures))]
    return f"| {' | '.join(cells)} |"


def _figures(figures: dict[str, float]) -> list[float]:
    return [y for key, y in figures.items() if key != "size"]


def table(axis: Axis, rows: Rows) -> str:
    """In Markdown."""
    every = [(method, figures) for method, line in rows.items() for figures in line]
    if not every:
        return ""
    names = ["method", axis.across, *(key for key in every[0][1] if key != "size")]
    head = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return "\n".join([*head, *(_row(method, figures) for method, figures in every)])


def lines(plot: Plot, rows: Rows) -> dict[str, Line]:
    """What is drawn, by its label."""
    return {
        method if len(plot.keys) == 1 else key.removesuffix(" MB"): [(row["size"], row[key]) for row in line]
        for method, line in rows.items()
        for key in plot.keys
    }


def slopes(axis: Axis, rows: Rows) -> Iterable[str]:
    """A line for each figure, with the verdict."""
    for plot in axis.plots:
        for label, line in lines(plot, rows).items():
            if len(line) > 1:
                found = slope(line)
                word = f", above {plot.worse:g}: worse than linear" if found > plot.worse else ""
                yield f"- {plot.title}, {label}: slope {found:.2f}{word}"


def main() -> int:
    parser = argparse.ArgumentParser(description="How the cost of a search grows.")
    parser.add_argument("--quick", action="store_true", help="two small sizes each, to see that it works")
    parser.add_argument("--out", type=Path, help="a folder for growth.md and growth.svg")
    options = parser.parse_args()
    until, said = time.monotonic() + LIMIT, list[str]()
    pages, panels = ["# How cost grows", "", SLOPE, "", "![log-log plots](growth.svg)"], list[Panel]()
    for axis in AXES:
        print(f"\n{axis.across}", flush=True)
        rows = measured(axis, options.quick, until, said)
        found = "\n".join(slopes(axis, rows))
        print(f"\n{table(axis, rows)}\n\n{found}", flush=True)
        pages += ["", f"## {axis.across.capitalize()}", "", axis.about, "", table(axis, rows), "", found]
        panels += [Panel(plot.title, axis.across, lines(plot, rows)) for plot in axis.plots]
    pages += ["", *(f"- {line}" for line in said)] if said else []
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "growth.md").write_text("\n".join(pages) + "\n")
        (options.out / "growth.svg").write_text(svg(panels))
    return any("failed" in line for line in said)


if __name__ == "__main__":
    sys.exit(main())
