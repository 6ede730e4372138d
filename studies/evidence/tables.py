"""What came of the evidence: the comparison over all data sets, the controls, and every loss behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from evidence import names

from hpo.reports import comparison, figures, plain
from hpo.reports.compared import compare
from hpo.reports.gathering import gather
from hpo.storage.ledger import Ledger

Losses = dict[tuple[str, int], float]
"""Test loss of the trial with the lowest validation loss, by data set and seed."""

MAIN = "drmad"
FIGURES = ("critical-difference", "ranks-gradient-evaluations", "best-so-far-test-gradient-evaluations")


def write(storage: str, folder: Path) -> None:
    """tables.md, losses.csv and FIGURES as SVG, of the studies that are in the database."""
    with Ledger.open(storage, create=False) as ledger:
        there = {study.name for study in ledger.studies()}
        studies = [s for name in names() for s in _parts(name, "descents", "searches") if s in there]
        compared = compare(ledger, *studies)
        contents = gather(ledger, studies)
        controls = _controls(ledger, there)
        everything = compare(ledger, *sorted(there))
    text = "\n\n".join([*compared["verdict"], plain.markdown(compared), _black_box(compared), controls])
    (folder / "tables.md").write_text(f"# The evidence: tables\n\n{text}\n", encoding="utf-8")
    (folder / "losses.csv").write_text(plain.table(everything) + "\n", encoding="utf-8")
    drawn = figures.draw(contents)
    for name in FIGURES:
        drawn[name].figure.update_layout(width=900).write_image(folder / f"{name}.svg")


def _parts(name: str, *parts: str) -> list[str]:
    return [f"evidence-{name}-{part}" for part in parts]


def _black_box(compared: dict[str, Any]) -> str:
    """The descents by hypergradients beside the best ranked search, data set by data set."""
    searches = [m["label"] for m in compared["methods"] if "drmad" not in m["label"] and m["label"] != "exact"]
    best = searches[0]
    lines = [f"`{MAIN}` against `{best}`, the best ranked search, seed by seed:", ""]
    lines += ["| data | seeds with a lower loss | median reduction | default's loss | drmad | " + best + " |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    for data in compared["data"]:
        ours, theirs = (_of(compared["arms"], data["name"], title) for title in (MAIN, best))
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        a, b = (np.array([some[seed] for seed in seeds]) for some in (ours, theirs))
        first = np.median([loss for loss in data["defaults"].values() if loss is not None])
        lines.append(
            f"| {data['name']} | {(a < b).sum()} of {len(a)} | {np.median(1 - a / b):.1%} | {first:.4g} "
            f"| {np.median(a):.4g} | {np.median(b):.4g} |"
        )
    return "\n".join(lines)


def _of(arms: list[dict[str, Any]], data: str, title: str) -> dict[int, float]:
    chosen = [a for a in arms if a["data"] == data and a["title"] == title and a["test_loss"] is not None]
    return {a["seed"]: a["test_loss"] for a in chosen}


def _controls(ledger: Ledger, there: set[str]) -> str:
    """Per-neuron DrMAD against what simpler means do."""
    wanted: dict[str, tuple[str, Callable[[str], bool]]] = {
        "global L2 alone (TPE)": ("l2-alone", lambda title: True),
        "global learning rate alone, no L2 (TPE)": ("rate-alone", lambda title: True),
        "early stopping alone, no L2": ("stopped", lambda title: True),
        "no L2, default rate, all steps": (
            "stopped",
            lambda title: title in ("stopped+600 steps", "stopped+1000 steps"),
        ),
    }
    ours = _losses(ledger, there, "descents", lambda title: title == MAIN)
    lines = ["| control | pairs | drmad lower | median reduction (95 %) | p | p (Holm) |", "|---|--:|--:|--:|--:|--:|"]
    pairs = {}
    for name, (part, which) in wanted.items():
        theirs = _losses(ledger, there, part, which)
        both = sorted(ours.keys() & theirs.keys())
        if both:
            a, b = (np.array([some[key] for key in both]) for some in (ours, theirs))
            pairs[name] = comparison.compare(a, b)
    adjusted = comparison.holm([pair.p_value for pair in pairs.values()])
    for (name, pair), p in zip(pairs.items(), adjusted, strict=True):
        low, high = pair.reduction_ci95 or (float("nan"), float("nan"))
        lines.append(
            f"| {name} | {pair.n} | {pair.wins} | {pair.median_reduction:.1%} ({low:.1%} … {high:.1%}) "
            f"| {pair.p_value or float('nan'):.2g} | {p or float('nan'):.2g} |"
        )
    return "\n".join(lines)


def _losses(ledger: Ledger, there: set[str], part: str, which: Callable[[str], bool]) -> Losses:
    """Over the arms of a part that are meant, the lowest validation loss decides."""
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for name in names():
        for study in set(_parts(name, part)) & there:
            for arm in compare(ledger, study)["arms"]:
                if which(arm["title"]) and arm["validation_loss"] is not None:
                    key, mine = (name, arm["seed"]), (arm["validation_loss"], arm["test_loss"])
                    found[key] = min(found.get(key, mine), mine)
    return {key: test for key, (_, test) in found.items()}
