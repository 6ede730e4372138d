"""A training that can be broken off at any moment and continued by another process, digit for digit.

At stops on the way the following's `kept` is noted, with the learning curve and the time so far; every so many seconds,
and when the training is interrupted, the last note is saved. A note holds on to tensors that the training may have let
go: of more than `LIGHT` bytes none is taken, and such a training is only saved every so many seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from hpo import snapshot
from hpo.storage.desk import Desk
from hpo.trial import Array

log = logging.getLogger(__name__)

STOPS = 256
"""A training can be saved at this many places."""

SHARE = 20
"""Saving takes at most one part in so many of the time."""

OFTEN = 0.1
"""Seconds between two notes, at least: what an interruption may lose."""

LIGHT = 64 * 2**20

FORM = 1
"""Of what is saved; another one is not understood."""

CURVE, SECONDS, KEPT = "curve", "seconds", "kept/"


class Past(NamedTuple):
    """Where an earlier process left a training: what its following kept, its learning curve, and how long it took."""

    kept: dict[str, Tensor]
    curve: list[tuple[float, ...]]
    seconds: float


class Saving:
    """Saves a trial through its desk; without one it does nothing. `every`: seconds between two checkpoints.

    `replica`: its place in a stack of trainings, of which all tensors are then noted, in a dictionary that stays.
    """

    def __init__(self, desk: Desk | None, every: float, replica: int | None = None) -> None:
        self._desk, self._every, self._replica = desk, every, replica
        self.beside = 1  # so many are saved one after another
        self._last = self._noted = time.monotonic()
        self._note: Past | None = None
        self._written: set[str] = set()

    def past(self, like: Tensor) -> Past:
        """The checkpoint to go on from, its tensors on the device of `like`; nothing if there is none of this form.

        Raises BadStorage.
        """
        named = None if self._desk is None else self._desk.load()
        if named is not None and "form" in named and int(named["form"]) == FORM:
            kept = {name.removeprefix(KEPT): array for name, array in named.items() if name.startswith(KEPT)}
            tensors = snapshot.tensors(kept, like.device)
            self._written = set(tensors)
            return Past(tensors, [tuple(row) for row in named[CURVE].tolist()], float(named[SECONDS]))
        if named is not None:
            log.warning("a training was saved by another hpo, in a form that this one does not read: it begins again")
        return Past({}, [], 0.0)

    def note(
        self, kept: dict[str, Tensor], curve: list[tuple[float, ...]], seconds: float, size: int | None = None
    ) -> None:
        """The training stands at a stop. Saves if it is time. `size`: its bytes, if known. Raises TakenOver."""
        now = time.monotonic()
        if self._desk is None or now - self._noted < min(OFTEN, self._every):
            return
        self._noted, self._note = now, Past(dict(kept) if self._replica is None else kept, list(curve), seconds)
        if now - self._last >= self._every:
            self.now()
        elif (bytes_of(kept) if size is None else size) > LIGHT:
            self._note = None

    def trained(self) -> None:
        """The training is over, and its derivative may want the room that a heavy note takes."""
        if self._note is not None and bytes_of(self._note.kept) > LIGHT:
            self._note = None

    def now(self) -> None:
        """Saves the last note, if it is not saved yet. Raises TakenOver."""
        if self._desk is None or self._note is None:
            return
        begun, note = time.monotonic(), self._note
        stays = self._written & note.kept.keys()  # what a name stands for never changes
        try:
            fresh = snapshot.arrays({name: self._own(x) for name, x in note.kept.items() if name not in stays})
        except ValueError as error:
            log.warning("this training cannot be saved: %s", error)
            self._desk = None
            return
        arrays: dict[str, Array] = {KEPT + name: array for name, array in fresh.items()}
        arrays[CURVE] = np.array(note.curve, dtype=np.float64).reshape(-1, 3)
        arrays[SECONDS], arrays["form"] = np.array(note.seconds), np.array(FORM)
        names = {KEPT + name + of for name in stays for of in ("", snapshot.LAYOUT, snapshot.BFLOAT16)}
        if self._desk.save(arrays, names):
            self._written = set(note.kept)
            self._note = None
        self._last = time.monotonic()
        self._last += max(0.0, self.beside * SHARE * (self._last - begun) - self._every)

    def _own(self, x: Tensor) -> Tensor:
        return x if self._replica is None else x[self._replica]


def bytes_of(kept: Mapping[str, Tensor]) -> int:
    """What the tensors hold."""
    return sum(x.numel() * x.element_size() for x in kept.values())
