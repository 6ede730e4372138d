"""What decides where to look next.

A strategy is a fold over trials: made anew and told the recorded trials in order, it stands where it stood, so nothing
of it is stored. Randomness comes from (seed, trial number) only. Trial 0 is the space's defaults, for every method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from hpo.trial import Proposal, Trial


class Strategy(Protocol):
    """Made as `Strategy(space, seed, **options)`; the options are the keys of the method in the study file."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting in force, defaults of the library underneath included, as plain JSON values."""
        ...

    @property
    def batch(self) -> int | None:
        """How many trials it likes to have under way where they can be trained together; None: any number.

        More may be asked for at once, fewer too: this only says when waiting for an outcome is worth more.
        """
        ...

    def ask(self, number: int) -> Proposal | None:
        """The proposal for trial `number`; None: an outcome is needed first.

        Numbers come in order. One may be asked for again, and be told with other values than were proposed: another run
        of the study was faster.
        """
        ...

    def tell(self, trial: Trial) -> None:
        """What became of a trial, failures included; also of trials this object was never asked for, in any order.

        A trial without an outcome runs elsewhere; it is told again when it ended.
        """
        ...


def arm_seed(label: str) -> int:
    """A 32-bit seed for all decisions of an arm; its label holds method, solver and seed."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "big")


def trial_seed(seed: int, number: int) -> int:
    """A 32-bit seed for one decision, the same wherever and whenever it is made."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4], "big")
