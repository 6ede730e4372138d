"""What runs where, since when, for how much longer, and what memory it holds: a line for each slot."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table
from rich.text import Text

from hpo.execution.cards import visible
from hpo.execution.packing import Card
from hpo.execution.place import Place
from hpo.reports.units import duration, size

if TYPE_CHECKING:
    from hpo.arm import ArmRun

LINES = 16
"""More slots than this are counted, not shown."""

EVERY = 5.0
"""Seconds between two looks at the memory of the cards."""


class _Running(NamedTuple):
    arm: ArmRun
    number: int
    place: Place
    since: float

    @property
    def title(self) -> str:
        return f"{self.arm.label} trial {self.number}"

    @property
    def lasts(self) -> float | None:
        """Seconds, if it takes as long as the arm's earlier trials did; None for the first."""
        return self.arm.cost.seconds / self.arm.closed if self.arm.closed else None


class UnderWay:
    """Something rich shows; told what begins and ends. `look` says what the cards have, when there are any."""

    def __init__(self, look: Callable[[], list[Card]] = visible) -> None:
        self._running: dict[tuple[str, int], _Running] = {}
        self._look, self._looked, self._cards = look, -EVERY, dict[str, Card]()

    def placed(self, arm: ArmRun, number: int, place: Place) -> None:
        """A trial runs there from now on."""
        self._running[arm.label, number] = _Running(arm, number, place, time.monotonic())

    def closed(self, arm: ArmRun, number: int) -> None:
        """A trial has ended, if it ran here."""
        self._running.pop((arm.label, number), None)

    def __rich__(self) -> Table:
        """The longest first in a slot of several, and the longest slots first."""
        slots: dict[int, list[_Running]] = {}
        for one in sorted(self._running.values(), key=lambda one: one.since):
            slots.setdefault(one.place.slot, []).append(one)
        table = Table.grid(padding=(0, 2))
        for slot, trainings in list(slots.items())[:LINES]:
            table.add_row(*map(Text, self._row(slot, trainings)), style="dim")
        if len(slots) > LINES:
            table.add_row(Text(f"… and {len(slots) - LINES} more"), style="dim")
        return table

    def _row(self, slot: int, trainings: list[_Running]) -> list[str]:
        first = trainings[0]
        what = first.title if len(trainings) == 1 else f"{len(trainings)} trainings, {first.title} …"
        lasts = [one.lasts for one in trainings]  # each is its share of a stack
        rest = sum(last for last in lasts if last is not None) - (time.monotonic() - first.since)
        left = "" if None in lasts else f"{duration(max(0.0, rest))} left"
        held = first.place.memory()
        memory = "" if held is None else size(held)
        since = duration(max(1.0, time.monotonic() - first.since))
        return [f"slot {slot}", what, since, left, memory, *self._in_use(first.place.cards)]

    def _in_use(self, names: tuple[str, ...]) -> list[str]:
        """Of each card: GiB in use, by whomever."""
        if names and time.monotonic() - self._looked >= EVERY:
            self._looked, self._cards = time.monotonic(), {card.name: card for card in self._look()}
        known = [self._cards[name] for name in names if name in self._cards and self._cards[name].total < inf]
        return [f"card {card.name}: {card.total - card.free:.1f} of {card.total:.1f} GiB" for card in known]
