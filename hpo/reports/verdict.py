"""What a comparison says, in sentences: of its JSON, for terminals and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.reports.comparison import pairs_needed
from hpo.reports.ranking import LEVEL
from hpo.reports.units import count

Json = Mapping[str, Any]

ENDED = ("complete", "failed")
NEAREST = 3
"""How many of the methods behind the best one get a sentence of their own."""

UNEQUAL = 1.2
"""Spending that differs by more is said."""


def sentences(compared: Json) -> list[str]:
    """The headline; the best ranked method against the next ones; what may be concluded; what to beware of."""
    if len(compared["methods"]) < 2:
        return ["One method: nothing to compare it with.", *_cautions(compared)]
    if all(arm["best_trial"] is None for arm in compared["arms"]):
        return ["No finished trials yet: nothing to compare."]
    against = against_best(compared)
    nearest, others = against[:NEAREST], len(against) - NEAREST
    lines = [_headline(compared, against), *(_pair(compared, p) for p in nearest)]
    if others > 0:
        lines.append(f"{others} more {_plural('method', others)} {'ranks' if others == 1 else 'rank'} behind these.")
    return [*lines, *_few(compared, against), *_groups(compared), *_cautions(compared)]


def against_best(compared: Json) -> list[Json]:
    """The pairs of the best ranked method, the next best first."""
    return [p for p in compared["pairs"] if p["a"] == compared["methods"][0]["label"]]


def told_apart(pair: Json) -> bool:
    """Whether the difference is more than chance would give, over all pairs compared."""
    return pair["p_holm"] is not None and pair["p_holm"] < LEVEL


def of_pairs(compared: Json, n: int) -> str:
    """`5 seeds`, or `15 pairs of data set and seed` where there are several data sets."""
    if len(compared["data"]) > 1:
        return f"{n} {_plural('pair', n)} of data set and seed"
    return f"{n} {_plural('seed', n)}"


def _headline(compared: Json, against: Sequence[Json]) -> str:
    best, m = compared["methods"][0], len(against)
    name, what = best["label"], "lowest median test loss" if best["mean_rank"] is None else "best mean rank"
    so_far = "So far " if _unfinished(compared) else ""
    better = [p for p in against if told_apart(p) and p["effect_size"] > 0]
    others = [p["b"] for p in against if p not in better]
    if not others:
        whom = against[0]["b"] if m == 1 else f"each of the other {m} methods"
        return f"{so_far}{name} is better than {whom}: {_lower(better)}."
    first = f"{so_far}{name} has the {what}"
    if better:
        named = " or ".join(others) if len(others) < 3 else f"{', '.join(others[:2])} or {len(others) - 2} more"
        return (
            f"{first} and is better than {len(better)} of the other {m} methods ({_lower(better)}); "
            f"it is not shown to be better than {named}."
        )
    if all(p["p_value"] is None for p in against):
        most = max(p["n"] for p in against)
        return f"{first}, but {of_pairs(compared, most)} cannot show that this is more than chance."
    whom = others[0] if m == 1 else f"any of the other {m} methods"
    return f"{first}, but it is not shown to be better than {whom}."


def _lower(pairs: Sequence[Json]) -> str:
    shares = [p["median_reduction"] for p in pairs if p["median_reduction"] is not None]
    worst = max(p["p_holm"] for p in pairs)
    if not shares:
        return f"p ≤ {worst:.2g} after Holm's correction"
    low, high = min(shares), max(shares)
    said = f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%}"
    return f"its test loss is {said} lower in the median, p ≤ {worst:.2g} after Holm's correction"


def _pair(compared: Json, pair: Json) -> str:
    ties = f" ({pair['ties']} equal)" if pair["ties"] else ""
    text = (
        f"{pair['a']} against {pair['b']}: lower test loss on {pair['wins']} of {of_pairs(compared, pair['n'])}{ties}"
    )
    if pair["median_difference"] is not None:
        text += f", median difference {pair['median_difference']:+.3g}"
    if pair["ci95"] is not None:
        text += f" (95 % interval {pair['ci95'][0]:+.3g} … {pair['ci95'][1]:+.3g})"
    if pair["median_reduction"] is not None:
        text += f", {abs(pair['median_reduction']):.1%} {'lower' if pair['median_reduction'] >= 0 else 'higher'}"
    if pair["p_value"] is not None:
        meaning = "more than chance" if told_apart(pair) else "may be chance"
        text += f", p = {pair['p_value']:.3g}, {pair['p_holm']:.3g} after Holm's correction: {meaning}"
    text += "."
    if pair["data_sets"] is not None:
        sets = pair["data_sets"]
        p = "" if sets["p_value"] is None else f", p = {sets['p_value']:.3g}"
        text += f" By data set: lower on {sets['wins']} of {sets['n']}{p}."
    return text + _budget(pair)


def _budget(pair: Json) -> str:
    """Where a is better, as far as can be told: what b takes to get there."""
    may_be_chance = pair["p_value"] is not None and not told_apart(pair)
    if may_be_chance or pair["median_difference"] is None or pair["median_difference"] >= 0:
        return ""
    times = pair["more_budget"]["gradient_evaluations"]
    if times is None:
        return f" Within its budget {pair['b']} does not get there."
    return f" {pair['b']} takes {times:.2g} times as many gradient evaluations to get there."


def _few(compared: Json, against: Sequence[Json]) -> list[str]:
    fewest, needed = min(p["n"] for p in against), pairs_needed(len(compared["pairs"]))
    if fewest >= needed:
        return []
    return [
        f"{of_pairs(compared, fewest)} cannot show that a difference is more than chance: over all pairs of "
        f"{len(compared['methods'])} methods a signed-rank test needs {needed} or more"
        + (f" (seeds: {needed})." if len(compared["data"]) == 1 else ".")
    ]


def _groups(compared: Json) -> list[str]:
    """Which methods are not told apart by their mean ranks."""
    found = compared["critical_difference"]
    if found["difference"] is None:
        return []
    told = f"mean ranks over {found['n']} {found['blocks']}, critical difference {found['difference']:.2f}"
    if len(found["groups"]) == 1 and len(found["groups"][0]) == len(found["ranks"]):
        return [f"No method is told apart from another by its rank ({told})."]
    best = compared["methods"][0]["label"]
    beside = [title for group in found["groups"] if best in group for title in group if title != best]
    return [f"Not told apart from {best} by rank: {', '.join(dict.fromkeys(beside)) or 'none'} ({told})."]


def _unfinished(compared: Json) -> int:
    return sum(a["state"] not in ENDED for a in compared["arms"])


def _cautions(compared: Json) -> list[str]:
    arms, lines = compared["arms"], []
    if _unfinished(compared):
        lines.append(f"{_unfinished(compared)} of {len(arms)} arms are not finished: these figures will change.")
    for m in compared["methods"]:
        ended = [a for a in arms if a["title"] == m["label"] and a["state"] in ENDED]
        without = sum(a["best_trial"] is None for a in ended)
        if without:
            lines.append(
                f"{m['label']} has no usable trial on {without} of {of_pairs(compared, m['seeds'])}: last there."
            )
    cost = {m["label"]: m["cost"]["gradient_evaluations"] for m in compared["methods"]}
    least, most = min(cost, key=lambda label: cost[label]), max(cost, key=lambda label: cost[label])
    if cost[most] > UNEQUAL * cost[least]:
        lines.append(
            f"Spending differs: from {count(cost[least])} gradient evaluations an arm ({least}) to {count(cost[most])} "
            f"({most})."
        )
    blocks = len({(a["data"], a["seed"]) for a in arms})
    if compared["complete"] < blocks:
        lines.append(f"Ranks are over {compared['complete']} of {of_pairs(compared, blocks)}: those all methods have.")
    return lines


def _plural(word: str, n: int) -> str:
    return word if n == 1 else f"{word}s"
