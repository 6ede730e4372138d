"""Verbs that wait for a database that is gone for a moment: restarted, out of reach, or on a full disk."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from hpo.storage.engine import Unreachable
from hpo.storage.leases import Times

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

FIRST, LONGEST = 0.1, 5.0
"""Seconds before the second attempt; before a later one, at most."""


class Patient(Protocol):
    """What has such verbs."""

    times: Times


S = TypeVar("S", bound=Patient)


def patient(verb: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Does the verb again while it raises Unreachable, for `times.patience` seconds. It must bear being done twice."""

    @functools.wraps(verb)
    def tried(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        end, pause = time.monotonic() + self.times.patience, FIRST
        while True:
            try:
                return verb(self, *args, **kwargs)
            except Unreachable as error:
                if time.monotonic() + pause > end:
                    raise
                log.warning("%s; trying again for %.0f s", error, end - time.monotonic())
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)

    return tried
