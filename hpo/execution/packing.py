"""Which training goes on which card.

    cards = Cards.of([Card("0", 80.0, 79.5), Card("1", 80.0, 12.0)])
    taken = cards.take(Request(0.25, 20.0))       # (the cards with it, its placement on card "0"), or None
    cards = taken.cards.give_back(taken.placement)

A share is never split over two cards. No card is given more than it has, of itself or of the memory that was free when
it was looked at, and a request that fits somewhere is never refused. Among the cards that fit, a share goes to the one
with most left: the trainings of a study ask for the same, so filling one card first would gain nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

from hpo.failures import BadStudy

WHOLE = 1_000_000
"""A card in millionths: counted whole, so that three thirds are one card and giving back leaves no rest."""


class Card(NamedTuple):
    """A card as CUDA_VISIBLE_DEVICES names it; `total` and `free` GiB, infinite where they are not known."""

    name: str
    total: float = inf
    free: float = inf


class Request(NamedTuple):
    """What one training asks for: a share of one card or so many whole ones, and GiB on each, if it says so."""

    gpus: float
    memory: float = 0.0

    @property
    def cards(self) -> int:
        """How many."""
        return max(1, int(self.gpus))

    @property
    def share(self) -> int:
        """Of each, in millionths."""
        return WHOLE if self.gpus >= 1 else max(1, int(self.gpus * WHOLE))


class Placement(NamedTuple):
    """Where a training is: the numbers of its cards in `Cards`, its share of each and its GiB on each."""

    cards: tuple[int, ...]
    share: int
    memory: float


class Taken(NamedTuple):
    """The cards after a request, and where it was placed."""

    cards: Cards
    placement: Placement


class Cards(NamedTuple):
    """Cards, and the trainings on them."""

    all: tuple[Card, ...]
    placed: tuple[Placement, ...] = ()

    @classmethod
    def of(cls, cards: Iterable[Card]) -> Cards:
        """With nothing on them."""
        return cls(tuple(cards))

    def take(self, request: Request) -> Taken | None:
        """Place a request; None if it fits nowhere now."""
        left = [WHOLE - sum(one.share for one in self._on(i)) for i in range(len(self.all))]
        free = [card.free - sum(one.memory for one in self._on(i)) for i, card in enumerate(self.all)]
        fit = [i for i in range(len(self.all)) if left[i] >= request.share and free[i] >= request.memory]
        if len(fit) < request.cards:
            return None
        best = sorted(fit, key=lambda i: (-left[i], -free[i], i))[: request.cards]
        placement = Placement(tuple(best), request.share, request.memory)
        return Taken(self._replace(placed=(*self.placed, placement)), placement)

    def give_back(self, placement: Placement) -> Cards:
        """The training is over. Raises ValueError if it is not there."""
        index = self.placed.index(placement)
        return self._replace(placed=self.placed[:index] + self.placed[index + 1 :])

    def _on(self, card: int) -> list[Placement]:
        return [one for one in self.placed if card in one.cards]


def pack(cards: Sequence[Card], request: Request, workers: int) -> list[tuple[int, ...]]:
    """The cards, by number, of each of so many workers that ask for the same.

    Raises BadStudy, in one line, when there is no room for all of them.
    """
    if request.memory and all(card.free < request.memory for card in cards):
        here = ", ".join(f"{card.free:.1f} of {card.total:.1f} GiB of card {card.name}" for card in cards)
        raise BadStudy(f"resources.gpu_memory {request.memory:g}: no card has so much free ({here}): ask for less")
    packed, found = Cards.of(cards), list[tuple[int, ...]]()
    while len(found) < workers and (taken := packed.take(request)) is not None:
        packed = taken.cards
        found.append(taken.placement.cards)
    if len(found) < workers:
        each = f"{request.gpus:g} GPUs" + (f" and {request.memory:g} GiB" if request.memory else "")
        room = f"use at most {len(found)} workers" if found else "ask for less"
        raise BadStudy(f"resources: {workers} workers of {each} need more than the {len(cards)} cards here: {room}")
    return found
