"""A training that can be broken off at any moment and continued by another process, digit for digit.

At every stop the following's `kept` is noted, with the learning curve and the time so far; every so many seconds, and
when the training is interrupted, the last note is saved.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from hpo import snapshot
from hpo.storage.desk import Desk
from hpo.trial import Array

STOPS = 256
"""A training can be saved at this many places."""

SHARE = 20
"""Saving takes at most one part in so many of the time."""

OFTEN = 0.1
"""Seconds between two notes, at least: what an interruption may lose."""

CURVE, SECONDS, KEPT = "curve", "seconds", "kept/"


class Past(NamedTuple):
    """Where an earlier process left a training: what its following kept, its learning curve, and how long it took."""

    kept: dict[str, Tensor]
    curve: list[tuple[float, ...]]
    seconds: float


class Saving:
    """Saves a trial through its desk; without one it does nothing. `every`: seconds between two checkpoints."""

    def __init__(self, desk: Desk | None, every: float) -> None:
        self._desk, self._every = desk, every
        self._last = self._noted = time.monotonic()
        self._note: Past | None = None
        self._written: dict[str, Tensor] = {}

    def past(self, like: Tensor) -> Past:
        """The checkpoint to go on from, its tensors on the device of `like`; nothing if there is none."""
        named = None if self._desk is None else self._desk.load()
        if named is None:
            return Past({}, [], 0.0)
        kept = {name.removeprefix(KEPT): array for name, array in named.items() if name.startswith(KEPT)}
        self._written = snapshot.tensors(kept, like.device)
        return Past(dict(self._written), [tuple(row) for row in named[CURVE].tolist()], float(named[SECONDS]))

    def note(self, kept: Mapping[str, Tensor], curve: list[tuple[float, ...]], seconds: float) -> None:
        """The training stands at a stop. Saves if it is time. Raises TakenOver."""
        now = time.monotonic()
        if self._desk is None or now - self._noted < min(OFTEN, self._every):
            return
        self._noted, self._note = now, Past(dict(kept), list(curve), seconds)
        if now - self._last >= self._every:
            self.now()

    def now(self) -> None:
        """Saves the last note, if it is not saved yet. Raises TakenOver."""
        if self._desk is None or self._note is None:
            return
        begun, note = time.monotonic(), self._note
        stays = {name for name, x in note.kept.items() if self._written.get(name) is x}
        fresh: dict[str, Array] = {
            KEPT + name: array
            for name, array in snapshot.arrays({n: x for n, x in note.kept.items() if n not in stays}).items()
        }
        curve = np.array(note.curve, dtype=np.float64).reshape(-1, 3)
        names = {KEPT + name + of for name in stays for of in ("", snapshot.LAYOUT, snapshot.BFLOAT16)}
        if self._desk.save({**fresh, CURVE: curve, SECONDS: np.array(note.seconds)}, names):
            self._written, self._note = note.kept, None
        self._last = time.monotonic()
        self._last += max(0.0, SHARE * (self._last - begun) - self._every)
