"""What came of the evidence: the comparison over all data sets, the controls, and every loss behind them."""

from __future__ import annotations

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
    """tables.md, losses.csv and FIGURES as SVG, of the data sets of which all arms have ended."""
    with Ledger.open(storage, create=False) as ledger:
        ended = {s.name for s in ledger.studies() if not s.running and not s.arms.get("open")}
        done = [name for name in names() if ended.issuperset(_parts(name, "descents", "searches"))]
        studies = [s for name in done for s in _parts(name, "descents", "searches")]
        compared = compare(ledger, *studies, control=MAIN)
        contents = gather(ledger, studies, MAIN)
        controls = _controls(ledger, ended)
        everything = compare(ledger, *studies, *sorted(s for s in ended if s not in studies))
    left = [name for name in names() if name not in done]
    said = f"{len(done)} data sets are finished" + (f"; not yet: {', '.join(left)}." if left else ".")
    text = "\n\n".join([said, plain.markdown(compared), _black_box(compared), *([controls] if controls else [])])
    (folder / "tables.md").write_text(f"# The evidence: tables\n\n{text}\n", encoding="utf-8")
    (folder / "losses.csv").write_text(plain.table(everything) + "\n", encoding="utf-8")
    drawn = figures.draw(contents)
    for name in FIGURES:
        if name in drawn:
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
    below, pairs = 0, 0
    for data in compared["data"]:
        ours, *others = (_of(compared["arms"], data["name"], title) for title in (MAIN, *searches))
        seeds = [seed for seed in ours if all(seed in loss for loss in others)]
        below += sum(ours[seed] < min(loss[seed] for loss in others) for seed in seeds)
        pairs += len(seeds)
    return "\n".join(
        [*lines, "", f"`{MAIN}` is below all {len(searches)} searches at once on {below} of {pairs} pairs."]
    )


def _of(arms: list[dict[str, Any]], data: str, title: str) -> dict[int, float]:
    chosen = [a for a in arms if a["data"] == data and a["title"] == title and a["test_loss"] is not None]
    return {a["seed"]: a["test_loss"] for a in chosen}


def _controls(ledger: Ledger, ended: set[str]) -> str:
    """Per-neuron DrMAD against what simpler means do, over the data sets that have both; nothing where none has."""
    wanted: dict[str, tuple[str, tuple[str, ...]]] = {
        "global L2 alone (TPE)": ("l2-alone", ()),
        "global learning rate alone, no L2 (TPE)": ("rate-alone", ()),
        "early stopping alone, no L2": ("stopped", ()),
        "no L2, default rate, all steps": ("stopped", ("stopped+600 steps", "stopped+1000 steps")),
    }
    ours = _losses(ledger, ended, "descents", (MAIN,))
    pairs = {}
    for name, (part, titles) in wanted.items():
        theirs = _losses(ledger, ended, part, titles)
        both = sorted(ours.keys() & theirs.keys())
        if both:
            a, b = (np.array([some[key] for key in both]) for some in (ours, theirs))
            pairs[name] = comparison.compare_over_data(a, b, [data for data, _ in both]), int((a < b).sum()), len(both)
    if not pairs:
        return ""
    adjusted = comparison.holm([pair.p_value for pair, _, _ in pairs.values()])
    rows = [
        f"| {name} | {wins} of {n} | {pair.wins} of {pair.n} | {_percent(pair.median_reduction)} "
        f"| {_number(pair.p_value)} | {_number(p)} |"
        for (name, (pair, wins, n)), p in zip(pairs.items(), adjusted, strict=True)
    ]
    heads = [
        "| control | drmad lower, pairs | data sets | median reduction | p | p (Holm) |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*heads, *rows])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _losses(ledger: Ledger, ended: set[str], part: str, titles: tuple[str, ...]) -> Losses:
    """Over the arms of a part, all if no title is given, the lowest validation loss decides."""
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for name in names():
        for study in ended.intersection(_parts(name, part)):
            for arm in compare(ledger, study)["arms"]:
                if arm["validation_loss"] is not None and (not titles or arm["title"] in titles):
                    key, mine = (name, arm["seed"]), (arm["validation_loss"], arm["test_loss"])
                    found[key] = min(found.get(key, mine), mine)
    return {key: test for key, (_, test) in found.items()}
