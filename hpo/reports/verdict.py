"""What a comparison says, in sentences: of its JSON, for terminals and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.reports.arms import ENDED
from hpo.reports.comparison import pairs_needed
from hpo.reports.ranking import LEVEL
from hpo.reports.units import count

Json = Mapping[str, Any]

NEAREST = 3
"""How many of the methods behind the best one get a sentence of their own."""

UNEQUAL = 1.2
"""Spending that differs by more is said."""


def sentences(compared: Json) -> list[str]:
    """The headline; the best ranked method, or the control, against the next ones; what may be concluded; cautions."""
    beware = cautions(compared)
    unusable = all(arm["best_trial"] is None for arm in compared["arms"])
    if unusable and not _unfinished(compared):
        shown = " and ".join(f"hpo show {name}" for name in compared["studies"])
        return [f"No arm has a usable trial: {shown} {'list' if ' and ' in shown else 'lists'} the reasons.", *beware]
    if len(compared["methods"]) < 2:
        return ["One method: nothing to compare it with.", *beware]
    if unusable:
        return ["No finished trials yet: nothing to compare."]
    told = against(compared)
    nearest, others = told[:NEAREST], len(told) - NEAREST
    lines = [_headline(compared, told), *(_pair(compared, p) for p in nearest)]
    if others > 0 and compared["control"] is None:
        lines.append(f"{others} more {_plural('method', others)} {'ranks' if others == 1 else 'rank'} behind these.")
    elif others > 0:
        lines.append(f"{others} more {_plural('method', others)} {'is' if others == 1 else 'are'} compared with it.")
    return [*lines, *_few(compared), *_groups(compared), *beware]


def against(compared: Json) -> list[Json]:
    """The pairs of the control, or else of the best ranked method, the next best first."""
    return [p for p in compared["pairs"] if p["a"] == (compared["control"] or compared["methods"][0]["label"])]


def told_apart(pair: Json) -> bool:
    """Whether the difference is more than chance would give, over all pairs compared."""
    return pair["p_holm"] is not None and pair["p_holm"] < LEVEL


def of_pairs(compared: Json, n: int) -> str:
    """`5 seeds`, or `15 pairs of data set and seed` where there are several data sets."""
    if len(compared["data"]) > 1:
        return f"{n} {_plural('pair', n)} of data set and seed"
    return _of_evidence(compared, n)


def _of_evidence(compared: Json, n: int) -> str:
    """`5 seeds`, or `3 data sets` where there are several: what the tests are over."""
    return f"{n} {_plural('seed' if len(compared['data']) == 1 else 'data set', n)}"


def _judged(pair: Json) -> Json:
    """The figures that the pair's test is about: those over data sets where there are several."""
    return pair["data_sets"] or pair


def _headline(compared: Json, told: Sequence[Json]) -> str:
    m, control = len(told), compared["control"]
    better = [p for p in told if told_apart(p) and _judged(p)["effect_size"] > 0]
    worse = [p for p in told if told_apart(p) and _judged(p)["effect_size"] < 0]
    others = [p["b"] for p in told if p not in better and p not in worse]
    so_far = "So far " if _unfinished(compared) else ""
    whom = told[0]["b"] if m == 1 else f"any of the other {m} methods"
    if len(better) == m:
        whom = told[0]["b"] if m == 1 else f"each of the other {m} methods"
        return f"{so_far}{told[0]['a']} is better than {whom}: {_by(better, 'lower')}."
    clauses = [] if control is not None else [_first(compared)]
    if better:
        clauses.append(f"is better than {len(better)} of the other {m} methods ({_by(better, 'lower')})")
    text = f"{so_far}{told[0]['a']} {' and '.join(clauses)}".rstrip()
    if worse:
        are = f"{_listed([p['b'] for p in worse])} {'is' if len(worse) == 1 else 'are'} better than it"
        text += f"{', but' if clauses else ':'} {are} ({_by(worse, 'higher')})"
    if better or worse:
        return f"{text}; it is not told apart from {_listed(others)}." if others else f"{text}."
    most = max(_judged(p)["n"] for p in told)
    if most == 0:
        return f"{text}{', but' if clauses else ''} meets {whom} on no data and seed."
    few = _of_evidence(compared, most)
    cannot = all(p["p_value"] is None for p in compared["pairs"])
    if control is not None:
        return f"{text}: {few} cannot show that it differs from {whom}." if cannot else (
            f"{text} is not told apart from {whom}."
        )  # fmt: skip
    if cannot:
        return f"{text}, but {few} cannot show that this is more than chance."
    return f"{text}, but it is not shown to be better than {whom}."


def _first(compared: Json) -> str:
    """Why the first method stands first."""
    best, *others = compared["methods"]
    if best["mean_rank"] is None:
        return "has the lowest median test loss"
    equal = [m["label"] for m in others if math.isclose(m["mean_rank"], best["mean_rank"])]
    return f"shares the best mean rank with {_listed(equal, 'and')}" if equal else "has the best mean rank"


def _listed(names: Sequence[str], word: str = "or") -> str:
    return f" {word} ".join(names) if len(names) < 3 else f"{', '.join(names[:2])} {word} {len(names) - 2} more"


def _by(pairs: Sequence[Json], way: str) -> str:
    """How much lower or higher, where the medians go the way of the test, and how sure that is."""
    worst = f"p ≤ {max(p['p_holm'] for p in pairs):.2g} after Holm's correction"
    shares = [share if way == "lower" else -share for share in (_judged(p)["median_reduction"] or 0.0 for p in pairs)]
    if min(shares) <= 0:
        return worst
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return f"its test loss is {low if low == high else f'{low} to {high}'} {way} in the median, {worst}"


def _pair(compared: Json, pair: Json) -> str:
    if pair["n"] == 0:
        return f"{pair['a']} against {pair['b']}: no data and seed on which both have an arm, and one a figure."
    judged, ties = _judged(pair), f" ({pair['ties']} equal)" if pair["ties"] else ""
    text = (
        f"{pair['a']} against {pair['b']}: lower test loss on {pair['wins']} of {of_pairs(compared, pair['n'])}{ties}"
    )
    if pair["data_sets"] is not None:
        equal = f" ({judged['ties']} equal)" if judged["ties"] else ""
        text += f"; by data set, the median over its seeds, on {judged['wins']} of {judged['n']}{equal}"
    if judged["median_difference"] is not None:
        text += f", median difference {judged['median_difference']:+.3g}"
    if judged["ci95"] is not None:
        text += f" (95 % interval {judged['ci95'][0]:+.3g} … {judged['ci95'][1]:+.3g})"
    if (share := judged["median_reduction"]) is not None:
        text += f", {abs(share):.1%} {'lower' if share >= 0 else 'higher'}"
    if pair["p_value"] is not None:
        meaning = "may be chance"
        if told_apart(pair):
            meaning = "more than chance" if judged["effect_size"] > 0 else f"more than chance, {pair['b']} is better"
        text += f", p = {pair['p_value']:.3g}, {pair['p_holm']:.3g} after Holm's correction: {meaning}"
    return f"{text}.{_budget(pair)}"


def _budget(pair: Json) -> str:
    """Where a is better, as far as can be told: what b takes to get there."""
    may_be_chance = pair["p_value"] is not None and not told_apart(pair)
    if may_be_chance or (_judged(pair)["median_difference"] or 0.0) >= 0 or _judged(pair)["effect_size"] <= 0:
        return ""
    times = pair["more_budget"]["gradient_evaluations"]
    if times is None:
        return f" Within its budget {pair['b']} does not get there."
    return f" {pair['b']} takes {times:.2g} times as many gradient evaluations to get there."


def _few(compared: Json) -> list[str]:
    """Where no pair is told apart because none could be."""
    pairs, most = compared["pairs"], max(_judged(p)["n"] for p in compared["pairs"])
    needed = pairs_needed(sum(p["p_value"] is not None for p in pairs) or len(pairs))
    if not 0 < most < needed or any(map(told_apart, pairs)):
        return []
    over = f"over all pairs of {len(compared['methods'])} methods" if compared["control"] is None else (
        f"over its {len(pairs)} {_plural('pair', len(pairs))}"
    )  # fmt: skip
    what = "data sets" if len(compared["data"]) > 1 else "seeds"
    return [
        f"{_of_evidence(compared, most)} cannot show that a difference is more than chance: {over} a signed-rank test "
        f"needs {needed} or more ({what}: {needed})."
    ]


def _groups(compared: Json) -> list[str]:
    """Which methods are not told apart by their mean ranks."""
    found = compared["critical_difference"]
    if found["difference"] is None:
        return []
    told = f"mean ranks over {found['n']} {found['blocks']}, critical difference {found['difference']:.2f}"
    if len(found["groups"]) == 1 and len(found["groups"][0]) == len(found["ranks"]):
        return [f"No method is told apart from another by its rank ({told})."]
    best = compared["control"] or compared["methods"][0]["label"]
    beside = [title for group in found["groups"] if best in group for title in group if title != best]
    return [f"Not told apart from {best} by rank: {', '.join(dict.fromkeys(beside)) or 'none'} ({told})."]


def _unfinished(compared: Json) -> int:
    return sum(a["state"] not in ENDED for a in compared["arms"])


def cautions(compared: Json) -> list[str]:
    """What is not finished, failed, or is not the same for all methods."""
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
    lines += _spending(compared)
    blocks = len({(a["data"], a["seed"]) for a in arms})
    if compared["complete"] < blocks:
        lines.append(f"Ranks are over {compared['complete']} of {of_pairs(compared, blocks)}: those all methods have.")
    return lines


def _spending(compared: Json) -> list[str]:
    """Where methods spent unequally on the same data and seeds: those on which the arms of all have ended."""
    titles = [m["label"] for m in compared["methods"]]
    ended: dict[tuple[str, int], dict[str, float]] = {}
    for a in compared["arms"]:
        if a["state"] in ENDED:
            ended.setdefault((a["data"], a["seed"]), {})[a["title"]] = a["cost"]["gradient_evaluations"]
    whole = [spent for spent in ended.values() if len(spent) == len(titles)]
    if not whole:
        return []
    cost = {title: sum(spent[title] for spent in whole) / len(whole) for title in titles}
    least, most = min(titles, key=lambda title: cost[title]), max(titles, key=lambda title: cost[title])
    if cost[most] <= UNEQUAL * cost[least]:
        return []
    return [
        f"Spending differs: from {count(cost[least])} gradient evaluations an arm ({least}) to {count(cost[most])} "
        f"({most})."
    ]


def _plural(word: str, n: int) -> str:
    return word if n == 1 else f"{word}s"
