"""What `hpo compare` answers, as plain JSON values: methods by rank, every two of them paired by data and seed.

Arms tell their losses as they are. Where there are several data sets, everything over more than one of them is told in
shares of the defaults' test loss: a loss divided by that of the trial at the defaults on the same data and seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo.failures import BadInput, unknown
from hpo.reports import anytime, ranking, verdict
from hpo.reports.anytime import Steps
from hpo.reports.arms import Json, finite
from hpo.reports.entrants import UNITS, read
from hpo.reports.field import Field, median
from hpo.reports.pairs import pairs
from hpo.reports.ranking import Array
from hpo.storage.ledger import Ledger

FEW = 4
"""So many studies are all named in a heading."""

SHARE = "share of the defaults' test loss"


def compare(ledger: Ledger, *names: str, control: str | None = None) -> Json:
    """The comparison of one or more studies; `complete`: how many pairs of data and seed all methods have.

    With a control, a method named beforehand, only its pairs are made, corrected for their number, and the verdict is
    about it. Raises BadInput, with the nearest name, for a study or a control there is not.
    """
    studies = list(dict.fromkeys(names))
    field = Field(read(ledger, studies))
    if control is not None and control not in field.titles:
        raise BadInput(unknown("method", control, field.titles))
    compared: Json = {
        "study": _title(studies),
        "studies": studies,
        "metric": "test_loss",
        "scale": "test_loss" if len(field.data) == 1 else SHARE,
        "data": [_data(field, data) for data in field.data],
        "control": control,
        "complete": len(field.complete),
        "arms": [e.entry for e in field.entrants],
        "methods": [_method(field, title) for title in field.titles],
        "pairs": pairs(field, control),
        **_over_spending(field),
        "critical_difference": _critical_difference(field),
    }
    return {**compared, "verdict": verdict.sentences(compared)}


def _title(studies: Sequence[str]) -> str:
    return ", ".join(studies) if len(studies) <= FEW else f"{studies[0]} and {len(studies) - 1} other studies"


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
    arms = [e for e in field.entrants if e.title == title]
    tests = [loss for loss in field.losses(title, field.blocks_of(title)).tolist() if math.isfinite(loss)]
    chosen = [e for e in arms if e.entry["best_trial"] is not None]
    validation = [e.entry["validation_loss"] / field.unit[e.block] for e in chosen]
    accuracy = [e.entry["test_accuracy"] for e in arms if e.entry["test_accuracy"] is not None]
    return {
        "label": title,
        "mean_rank": finite(field.ranks[title]),
        "median_test_loss": finite(median(tests)),
        "test_loss_range": [min(tests), max(tests)] if tests else None,
        "median_validation_loss": finite(median(validation)),
        "median_test_accuracy": finite(median(accuracy)),
        "seeds": len(arms),
        "usable": len(chosen),
        "cost": {unit: float(np.mean([e.entry["cost"][unit] for e in arms])) for unit in UNITS},
    }


def _over_spending(field: Field) -> Json:
    """`curves` and `ranks`: the incumbents on one grid a unit, in the comparison's scale, on the same blocks for all.

    Every arm there counts, as ∞ while it has no figure; a quantile that is infinite is null.
    """
    curves: dict[str, Json] = {title: {} for title in field.titles}
    ranks: Json = {}
    for unit in UNITS:
        every = {title: field.incumbents(title, field.complete, unit) for title in field.titles}
        points = anytime.grid([arm for arms in every.values() for arm in arms])
        at = points.tolist()
        for title, arms in every.items():
            curves[title][unit] = {"at": at, "test": _band([a.test for a in arms], arms, points),
                                   "validation": _band([a.validation for a in arms], arms, points)}  # fmt: skip
        tests = np.array([[anytime.sampled(arm.at, arm.test, points) for arm in arms] for arms in every.values()])
        means = anytime.mean_ranks(tests) if field.complete else np.full((len(every), len(points)), np.nan)
        ranks[unit] = {"at": at, "methods": dict(zip(field.titles, map(_finite, means), strict=True))}
    return {"curves": curves, "ranks": ranks}


def _band(values: Sequence[Array], arms: Sequence[Steps], points: Array) -> Json:
    if not arms:
        return {key: [None] * len(points) for key in ("median", "low", "high")}
    sampled = np.array([anytime.sampled(arm.at, losses, points) for arm, losses in zip(arms, values, strict=True)])
    low, median, high = map(_finite, anytime.quantiles(sampled, anytime.QUARTILES))
    return {"median": median, "low": low, "high": high}


def _critical_difference(field: Field) -> Json:
    """Over data sets where there are several, as seeds of one data set are no evidence about another."""
    several = len(field.data) > 1
    losses, blocks = (field.by_data, "data sets") if several else (field.losses, "seeds")
    found = ranking.critical_difference(np.array([losses(title, field.complete) for title in field.titles]))
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
