"""The arms of a comparison as arrays: methods by rank, and blocks, which are one data set with one seed each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo.reports import anytime, comparison, ranking
from hpo.reports.anytime import Steps
from hpo.reports.arms import ENDED
from hpo.reports.entrants import Entrant
from hpo.reports.ranking import Array
from hpo.reports.sameness import Block


class Field:
    """`titles` are the methods, best mean rank over the blocks that all of them have (`complete`) first.

    An arm is there once a trial of it has ended; one without a figure then is worse than any.

    Losses are in the comparison's scale: each divided by its block's `unit`, which is 1 when there is one data set, and
    else the test loss of the first arm there that tried the defaults, or the median over methods if none did. A block
    whose unit is not positive has no such scale: its losses are NaN, and nothing is compared on it.
    """

    def __init__(self, entrants: Sequence[Entrant]) -> None:
        self.entrants = entrants
        self.data = list(dict.fromkeys(e.data for e in entrants))
        self.blocks: list[Block] = sorted({e.block for e in entrants}, key=lambda b: (self.data.index(b[0]), b[1]))
        told = [e for e in entrants if e.entry["trials"] or e.entry["state"] in ENDED]
        self.arm = {(e.title, e.block): e for e in told}
        self.unit = {block: self._unit(block) if len(self.data) > 1 else 1.0 for block in self.blocks}
        titles = list(dict.fromkeys(e.title for e in entrants))
        self.complete = self.blocks_of(*titles)
        ranks = ranking.mean_ranks(np.array([self.losses(title, self.complete) for title in titles]))
        self.ranks = dict(zip(titles, ranks.tolist(), strict=True))
        self.titles = sorted(titles, key=lambda title: (_last(self.ranks[title]), _last(self._overall(title))))
        self._medians: dict[tuple[str, tuple[Block, ...], str], Steps] = {}

    def blocks_of(self, *titles: str) -> list[Block]:
        """Those with a scale on which all of these methods have an arm."""
        return [
            block
            for block in self.blocks
            if self.unit[block] > 0 and all((title, block) in self.arm for title in titles)
        ]

    def losses(self, title: str, blocks: Sequence[Block]) -> Array:
        """The test losses of a method, NaN without a figure."""
        return np.array([self.arm[title, block].test / self.unit[block] for block in blocks])

    def by_data(self, title: str, blocks: Sequence[Block]) -> Array:
        """One loss a data set: the median over its seeds, as `comparison.by_data`."""
        return comparison.by_data(self.losses(title, blocks), [data for data, _ in blocks])

    def incumbents(self, title: str, blocks: Sequence[Block], unit: str) -> list[Steps]:
        """Those of all its arms on these blocks, with or without a figure."""
        return [
            s._replace(validation=s.validation / self.unit[block], test=s.test / self.unit[block])
            for block in blocks
            for s in [self.arm[title, block].incumbents[unit]]
        ]

    def median(self, title: str, blocks: Sequence[Block], unit: str) -> Steps:
        """The median over its incumbents on one block or more."""
        key = title, tuple(blocks), unit
        if key not in self._medians:
            self._medians[key] = anytime.median(self.incumbents(title, blocks, unit))
        return self._medians[key]

    def _unit(self, block: Block) -> float:
        here = [e for e in self.entrants if e.block == block]
        known = [e.defaults for e in here if math.isfinite(e.defaults)] or [median([e.test for e in here])]
        return known[0] if known[0] > 0 else math.nan

    def _overall(self, title: str) -> float:
        return median(self.losses(title, self.blocks_of(title)))


def median(values: Sequence[float] | Array) -> float:
    """Of the finite ones; NaN without any."""
    there = [value for value in values if math.isfinite(value)]
    return float(np.median(there)) if there else math.nan


def _last(value: float) -> float:
    return math.inf if math.isnan(value) else value
