"""One worker process per slot, reused from trial to trial.

On the CPU workers are forked from a server that has loaded torch already (15 ms a worker instead of a second); with a
GPU they are spawned, each pinned to its cards before torch looks for any. A worker that dies takes only its own trial
with it: every slot is a pool of its own, replaced when it breaks. Workers end with the process that started them,
however it ends.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from typing import Any, Literal

from hpo.execution.cards import visible
from hpo.execution.executor import P, T, warn_if_crowded
from hpo.execution.packing import Request, pack
from hpo.execution.place import Place
from hpo.failures import BadStudy
from hpo.interruption import deferred
from hpo.resources import Resources

log = logging.getLogger(__name__)

GRACE = 20.0
"""Seconds an interrupted worker has to save its training."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Processes:
    """`resources.workers` slots, each with its cores and its cards.

    Raises BadStudy when GPUs are asked for and there are none, or too few.
    """

    width = 1
    machines = 1

    def __init__(self, resources: Resources) -> None:
        self.slots = resources.workers
        warn_if_crowded(resources.workers, resources.cpus)
        self._cards = _pinned(resources)
        for name in THREADS:
            os.environ[name] = str(resources.cpus)
        self._context = multiprocessing.get_context("forkserver" if resources.on == "cpu" else "spawn")
        if resources.on == "cpu":
            self._context.set_forkserver_preload(["hpo.evaluation"])
            _start_server()
        self._pools = [self._pool(slot) for slot in range(self.slots)]
        self._last: list[Future[Any] | None] = [None] * self.slots
        self._alone: dict[int, Future[Any] | None] = {}

    @property
    def free(self) -> int:
        """How many calls may be submitted now: idle slots that are not kept for a call that wants to be alone."""
        return len(self._free())

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Give it to a free slot; raises RuntimeError when there is none."""
        free = self._free()
        if not free:
            raise RuntimeError(f"all {self.slots} slots are busy: wait for a future before submitting more")
        return self._submit(free[0], function, *args, **kwargs)

    def start(self) -> Sequence[Future[Any]]:
        """Nothing to do: what is submitted runs."""
        return ()

    def alone(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T] | None:
        """Run it with no other worker on its cards (without cards: on this machine).

        None while others are at work there; nothing new goes there until this was asked again and has run.
        """
        waiting = (slot for slot, future in self._alone.items() if future is None)
        slot = next(waiting, None)
        if slot is None:
            taken = self._kept()
            slot = min((s for s in range(self.slots) if s not in taken), key=self._busy_around, default=None)
        if slot is None:
            return None
        self._alone[slot] = None
        if self._busy_around(slot):
            return None
        for other in self._around(slot) - {slot}:
            self._renew(other)  # what it holds of the card goes with it
        future = self._submit(slot, function, *args, **kwargs)
        self._alone[slot] = future
        return future

    def place(self, future: Future[Any]) -> Place:
        """Where the last call of a slot runs. Raises ValueError for any other."""
        slot = self._last.index(future)
        return Place(slot, next(iter(self._pools[slot]._processes or ()), None), self._cards[slot])

    def _submit(self, slot: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with deferred(), _nameless():  # a worker that was asked for and is not known yet could not be ended
            try:
                future = self._pools[slot].submit(function, *args, **kwargs)
            except BrokenExecutor:  # its worker died, with its last work or idle
                self._renew(slot, wait=False)
                future = self._pools[slot].submit(function, *args, **kwargs)
        self._last[slot] = future
        return future

    def _renew(self, slot: int, wait: bool = True) -> None:
        """The slot gets another worker when it is next used."""
        self._pools[slot].shutdown(wait=wait)
        self._pools[slot] = self._pool(slot)

    def _free(self) -> list[int]:
        kept = self._kept()
        return [slot for slot in range(self.slots) if not self._busy(slot) and slot not in kept]

    def _kept(self) -> set[int]:
        """The slots where a call wants to be alone, or is."""
        self._alone = {slot: future for slot, future in self._alone.items() if future is None or not future.done()}
        return {other for slot in self._alone for other in self._around(slot)}

    def _busy(self, slot: int) -> bool:
        last = self._last[slot]
        return last is not None and not last.done()

    def _busy_around(self, slot: int) -> int:
        return sum(self._busy(other) for other in self._around(slot))

    def _around(self, slot: int) -> set[int]:
        """The slots on the same cards, itself among them; without cards, all."""
        mine = set(self._cards[slot])
        return {other for other in range(self.slots) if other == slot or not mine or mine & set(self._cards[other])}

    def forget(self) -> None:
        """No call wants to be alone any more."""
        self._alone = {slot: future for slot, future in self._alone.items() if future is not None}

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
        begin = partial(_begin, self._cards[slot])
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=begin)


@contextmanager
def _nameless() -> Iterator[None]:
    """A worker that starts meanwhile does not run the program's own file again, as multiprocessing has it do.

    Everything it is to call is imported by name, and a script that calls `hpo.run` must not call it in its workers.
    """
    main = vars(sys.modules["__main__"])
    names = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(names)


def _pinned(resources: Resources) -> list[tuple[str, ...]]:
    """The names of each slot's cards. Raises BadStudy."""
    if resources.on == "cpu":
        return [()] * resources.workers
    cards = visible()
    if not cards:
        raise BadStudy(
            f"resources.gpus {resources.gpus:g}: no NVIDIA card is visible here; set gpus: 0 to train on the CPU"
        )
    packed = pack(cards, Request(resources.gpus, resources.gpu_memory or 0.0), resources.workers)
    return [tuple(cards[number].name for number in numbers) for numbers in packed]


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


def _begin(cards: tuple[str, ...]) -> None:
    """What a worker does first: take its cards, leave Ctrl-C to the parent, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="hpo: %(message)s")  # as the command line does
    if cards:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts them
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
