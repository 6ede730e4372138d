"""Trials a second when several processes drain one arm; each begins when all are ready."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

import optuna
from storage_sides import Ours, Theirs, storage, study

from hpo.storage.ledger import Ledger

DRAINED, SHARED = 400, 80
"""Trials of ours and, because they take so much longer, of Optuna's."""

_together: dict[str, Any] = {}


def meet(barrier: Barrier) -> None:
    _together["barrier"] = barrier
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def drain_ours(url: str, width: int) -> tuple[float, float]:
    """From the moment all are ready until none is left; whoever is free takes the next."""
    with Ledger.open(url, create=False) as ledger, ledger.attend("drained", 1) as lease:
        ours = Ours(ledger, lease, width)
        _together["barrier"].wait()
        begun = time.perf_counter()
        ours.drain(DRAINED)
        return begun, time.perf_counter()


def drain_theirs(url: str, width: int) -> tuple[float, float]:
    """The same for an equal part of the trials."""
    their = Theirs(storage(url), "drained")
    _together["barrier"].wait()
    begun = time.perf_counter()
    their.scalars(SHARED // width)
    return begun, time.perf_counter()


def rate(drain: Callable[[str, int], tuple[float, float]], url: str, count: int, trials: int) -> float:
    """Trials a second."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(count, meet, (spawn.Barrier(count),)) as pool:
        times = pool.starmap(drain, [(url, count)] * count, chunksize=1)
    return trials / (max(end for _, end in times) - min(begun for begun, _ in times))


def ours_drained(new: Callable[[], str], count: int) -> float:
    with Ledger.open(url := new()) as ledger:
        ledger.begin(study("drained"), {})
    return rate(drain_ours, url, count, DRAINED)


def theirs_drained(new: Callable[[], str], count: int) -> float:
    Theirs(storage(url := new()), "drained")
    return rate(drain_theirs, url, count, SHARED)
