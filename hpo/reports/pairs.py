"""Methods two by two, as plain JSON values.

What decides between them is one figure a data set, the median of its seeds' differences, where there are several data
sets; with one it is one figure a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from hpo.reports import anytime, comparison
from hpo.reports.anytime import Steps
from hpo.reports.arms import Json
from hpo.reports.comparison import Pair
from hpo.reports.entrants import UNITS
from hpo.reports.field import Field
from hpo.reports.sameness import Block


def pairs(field: Field, control: str | None = None) -> list[Json]:
    """Every two methods, the better ranked one first; with a control it against every other one (Demšar 2006, 3.2.2).

    `p_holm` is corrected for the pairs that are told.
    """
    others = [(control, title) for title in field.titles if control is not None and title != control]
    told = [_pair(field, a, b) for a, b in (combinations(field.titles, 2) if control is None else others)]
    adjusted = comparison.holm([pair["p_value"] for pair in told])
    return [{**pair, "p_holm": p} for pair, p in zip(told, adjusted, strict=True)]


def _pair(field: Field, a: str, b: str) -> Json:
    blocks = field.blocks_of(a, b)
    losses = field.losses(a, blocks), field.losses(b, blocks)
    pooled, sets = comparison.compare(*losses), None
    if len(field.data) > 1:
        sets = comparison.compare_over_data(*losses, [data for data, _ in blocks])
    notes = [pair.note for pair in (sets, pooled) if pair is not None and pair.note is not None]
    return {
        "a": a,
        "b": b,
        **_json(pooled),
        "p_value": (pooled if sets is None else sets).p_value,
        "pooled_p_value": pooled.p_value,
        "note": "; ".join(notes) or None,
        "data_sets": None if sets is None else _json(sets),
        "more_budget": {unit: _asked(anytime.more_budget, field, a, b, blocks, unit) for unit in UNITS},
        "less_budget": {unit: _asked(anytime.less_budget, field, a, b, blocks, unit) for unit in UNITS},
    }


def _json(pair: Pair) -> Json:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in pair._asdict().items()}


def _asked(
    question: Callable[[Steps, Steps], float | None], field: Field, a: str, b: str, blocks: Sequence[Block], unit: str
) -> float | None:
    return question(field.median(a, blocks, unit), field.median(b, blocks, unit)) if blocks else None
