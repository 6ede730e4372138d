"""What `hpo compare` answers, as plain JSON values: methods by rank, every two of them paired by data and seed.

Arms tell their losses as they are. Where there are several data sets, everything over more than one of them is told in
shares of the defaults' test loss: a loss divided by that of the trial at the defaults on the same data and seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from hpo.reports import anytime, comparison, ranking, verdict
from hpo.reports.anytime import Steps
from hpo.reports.arms import Json, finite
from hpo.reports.entrants import UNITS, Block, read
from hpo.reports.field import Field, median
from hpo.reports.ranking import Array
from hpo.storage.ledger import Ledger

SHARE = "share of the defaults' test loss"


def compare(ledger: Ledger, *names: str) -> Json:
    """The comparison of one or more studies; `complete`: how many pairs of data and seed all methods have.

    Raises BadInput, with the nearest name, for a study there is not.
    """
    studies = list(dict.fromkeys(names))
    field = Field(read(ledger, studies))
    compared: Json = {
        "study": ", ".join(studies),
        "studies": studies,
        "metric": "test_loss",
        "scale": "test_loss" if len(field.data) == 1 else SHARE,
        "data": [_data(field, data) for data in field.data],
        "complete": len(field.complete),
        "arms": [e.entry for e in field.entrants],
        "methods": [_method(field, title) for title in field.titles],
        "pairs": _pairs(field),
        **_over_spending(field),
        "critical_difference": _critical_difference(field),
    }
    return {**compared, "verdict": verdict.sentences(compared)}


def _data(field: Field, data: str) -> Json:
    """A data set: its studies, seeds, the test loss of the defaults by seed, and its methods' medians and ranks."""
    here = [e for e in field.entrants if e.data == data]
    alone = Field(here) if len(field.data) > 1 else field
    seeds = sorted({e.seed for e in here})
    defaults = {seed: [e.defaults for e in here if e.seed == seed and math.isfinite(e.defaults)] for seed in seeds}
    return {
        "name": data,
        "studies": list(dict.fromkeys(e.study for e in here)),
        "seeds": seeds,
        "defaults": {str(seed): known[0] if known else None for seed, known in defaults.items()},
        "methods": [
            {
                "label": title,
                "mean_rank": finite(alone.ranks[title]),
                "median_test_loss": finite(median(alone.losses(title, alone.blocks_of(title)))),
            }
            for title in alone.titles
        ],
    }


def _method(field: Field, title: str) -> Json:
    """Medians over the arms that have a figure; the cost is an arm's, on average."""
    blocks = field.blocks_of(title)
    arms = [field.arm[title, block] for block in blocks]
    tests = [loss for loss in field.losses(title, blocks).tolist() if math.isfinite(loss)]
    validation = [e.entry["validation_loss"] / field.unit[e.block] for e in arms if e.entry["best_trial"] is not None]
    accuracy = [e.entry["test_accuracy"] for e in arms if e.entry["test_accuracy"] is not None]
    return {
        "label": title,
        "mean_rank": finite(field.ranks[title]),
        "median_test_loss": finite(median(tests)),
        "test_loss_range": [min(tests), max(tests)] if tests else None,
        "median_validation_loss": finite(median(validation)),
        "median_test_accuracy": finite(median(accuracy)),
        "seeds": len(arms),
        "usable": sum(e.entry["best_trial"] is not None for e in arms),
        "cost": {unit: float(np.mean([e.entry["cost"][unit] for e in arms])) for unit in UNITS},
    }


def _pairs(field: Field) -> list[Json]:
    """Every two methods, the better ranked one first."""
    pairs = [_pair(field, a, b) for a, b in combinations(field.titles, 2)]
    adjusted = comparison.holm([pair["p_value"] for pair in pairs])
    return [{**pair, "p_holm": p} for pair, p in zip(pairs, adjusted, strict=True)]


def _pair(field: Field, a: str, b: str) -> Json:
    blocks = field.blocks_of(a, b)
    pair = comparison.compare(field.losses(a, blocks), field.losses(b, blocks))._asdict()
    return {
        "a": a,
        "b": b,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in pair.items()},
        "data_sets": _by_data(field, a, b, blocks),
        "more_budget": {unit: _asked(anytime.more_budget, field, a, b, blocks, unit) for unit in UNITS},
        "less_budget": {unit: _asked(anytime.less_budget, field, a, b, blocks, unit) for unit in UNITS},
    }


def _asked(
    question: Callable[[Steps, Steps], float | None], field: Field, a: str, b: str, blocks: Sequence[Block], unit: str
) -> float | None:
    mine, theirs = field.median(a, blocks, unit), field.median(b, blocks, unit)
    return None if mine is None or theirs is None else question(mine, theirs)


def _by_data(field: Field, a: str, b: str, blocks: Sequence[Block]) -> Json | None:
    """The pair with one figure a data set; None with less than two data sets."""
    if len({data for data, _ in blocks}) < 2:
        return None
    pair = comparison.compare(field.by_data(a, blocks), field.by_data(b, blocks))
    return {"n": pair.n, "wins": pair.wins, "p_value": pair.p_value}


def _over_spending(field: Field) -> Json:
    """`curves` and `ranks`: the incumbents on one grid a unit, in the comparison's scale."""
    curves: dict[str, Json] = {title: {} for title in field.titles}
    ranks: Json = {}
    for unit in UNITS:
        points = anytime.grid([e.incumbents[unit] for e in field.entrants])
        at = points.tolist()
        for title in field.titles:
            arms = field.incumbents(title, field.blocks_of(title), unit)
            curves[title][unit] = {"at": at, "test": _band([a.test for a in arms], arms, points),
                                   "validation": _band([a.validation for a in arms], arms, points)}  # fmt: skip
        tests = np.full((len(field.titles), len(field.complete), len(points)), np.nan)
        for m, title in enumerate(field.titles):
            for i, block in enumerate(field.complete):
                arm = field.arm[title, block].incumbents[unit]
                tests[m, i] = anytime.sampled(arm.at, arm.test, points)
        means = anytime.mean_ranks(tests) if field.complete else np.full(tests.shape[::2], np.nan)
        ranks[unit] = {"at": at, "methods": dict(zip(field.titles, map(_finite, means), strict=True))}
    return {"curves": curves, "ranks": ranks}


def _band(values: Sequence[Array], arms: Sequence[Steps], points: Array) -> Json:
    if not arms:
        return {key: [None] * len(points) for key in ("median", "low", "high")}
    sampled = np.array([anytime.sampled(arm.at, losses, points) for arm, losses in zip(arms, values, strict=True)])
    low, median, high = map(_finite, anytime.quantiles(sampled, anytime.QUARTILES))
    return {"median": median, "low": low, "high": high}


def _critical_difference(field: Field) -> Json:
    """Over data sets where there are enough of them, as seeds of one data set are no evidence about another."""
    many = len({data for data, _ in field.complete}) >= ranking.FEWEST
    losses = field.by_data if many else field.losses
    found = ranking.critical_difference(np.array([losses(title, field.complete) for title in field.titles]))
    blocks = "data sets" if many else "seeds" if len(field.data) == 1 else "pairs of data set and seed"
    return {
        "blocks": blocks,
        "n": found.n,
        "ranks": dict(zip(field.titles, _finite(found.ranks), strict=True)),
        "friedman_p": found.friedman_p,
        "difference": found.difference,
        "groups": [[field.titles[m] for m in group] for group in found.groups],
        "note": found.note and found.note.replace("blocks", blocks),
    }


def _finite(values: Array) -> list[float | None]:
    return [finite(value) for value in values.tolist()]
