"""One worker process per slot, reused from trial to trial.

On the CPU workers are forked from a server that has loaded torch already (15 ms a worker instead of a second); with a
GPU they are spawned, each pinned to one card before torch looks for any. A worker that dies takes only its own trial
with it: every slot is a pool of its own, replaced when it breaks. Workers end with the process that started them,
however it ends.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from hpo.execution.executor import P, T
from hpo.failures import BadStudy
from hpo.interruption import deferred
from hpo.spec import Resources

GRACE = 20.0
"""Seconds an interrupted worker has to save its training."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Processes:
    """`resources.workers` slots. Raises BadStudy when GPUs are asked for and none is there."""

    def __init__(self, resources: Resources) -> None:
        self.slots = resources.workers
        cards = visible_cards() if resources.gpus else []
        if resources.gpus and not cards:
            raise BadStudy(
                f"resources.gpus {resources.gpus:g}: no NVIDIA card is visible here; set gpus: 0 to train on the CPU"
            )
        pins = pin(cards, resources.gpus, resources.workers)
        for name in THREADS:
            os.environ[name] = str(resources.threads)
        self._context = multiprocessing.get_context("spawn" if cards else "forkserver")
        if not cards:
            self._context.set_forkserver_preload(["hpo.evaluation"])
            _start_server()
        self._starts = [partial(start, card) for card in pins]
        self._pools = [self._pool(slot) for slot in range(self.slots)]
        self._last: list[Future[Any] | None] = [None] * self.slots

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Give it to an idle slot; raises RuntimeError when there is none."""
        slot = next((i for i, last in enumerate(self._last) if last is None or last.done()), None)
        if slot is None:
            raise RuntimeError(f"all {self.slots} slots are busy: wait for a future before submitting more")
        with deferred():  # a worker that was asked for and is not known yet could not be ended
            try:
                future = self._pools[slot].submit(function, *args, **kwargs)
            except BrokenExecutor:  # its worker died, with its last work or idle
                self._pools[slot].shutdown(wait=False)
                self._pools[slot] = self._pool(slot)
                future = self._pools[slot].submit(function, *args, **kwargs)
        self._last[slot] = future
        return future

    def close(self, wait: bool = True) -> None:
        """End all workers: after their work, or, given a moment to save it, at once."""
        try:
            if not wait:
                self._each("terminate")
                futures.wait([last for last in self._last if last is not None], GRACE)
        finally:
            if not wait:
                self._each("kill")
            for pool in self._pools:  # waits in either case: a worker that starts must find what it shares with us
                pool.shutdown(wait=True, cancel_futures=True)

    def _each(self, ending: Literal["terminate", "kill"]) -> None:
        for pool in self._pools:
            for process in list((pool._processes or {}).values()):  # public from Python 3.14 on: terminate_workers
                getattr(process, ending)()

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=self._starts[slot])


def _start_server() -> None:
    """Start the fork server deaf to Ctrl-C and without the current folder on its path.

    Loading torch takes it a second, in which Ctrl-C would print its traceback; and a file called random.py in the
    user's folder must not stand in for the library's.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    resource_tracker.ensure_running()  # first: when it has started it lets signals through again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def pin(cards: list[str], share: float, workers: int) -> list[str | None]:
    """The card of each worker: `share` of one card each (or, from 1 on, a whole card), filled one after another.

    Raises BadStudy when the workers need more cards than there are.
    """
    if not cards:
        return [None] * workers
    each = max(1, int(1 / share + 1e-9))
    room = len(cards) * each
    if workers > room:
        raise BadStudy(
            f"resources: {workers} workers of {share:g} GPUs need more than the {len(cards)} here; "
            f"use at most {room} workers"
        )
    return [cards[i // each] for i in range(workers)]


def visible_cards() -> list[str]:
    """The NVIDIA cards this process may use, without touching CUDA."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [card.strip() for card in chosen.split(",") if card.strip()]
    return [str(i) for i, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def start(card: str | None) -> None:
    """What a worker does first: take its card, leave Ctrl-C to the parent, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="hpo: %(message)s")  # as the command line does
    if card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = card
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
