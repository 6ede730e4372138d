"""Several trainings in one program: what is submitted waits for company, and a worker trains all of it stacked.

Trials are handed in one by one and end one by one, as everywhere; when the loop says `start`, those that wait are
shared out evenly among the free workers. What must go on from a checkpoint, or run by itself, is not stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from hpo.execution import worker
from hpo.execution.executor import Executor, P, T
from hpo.execution.place import Place
from hpo.execution.processes import Processes
from hpo.execution.serial import Serial
from hpo.resources import Resources


class _Waiting(NamedTuple):
    arguments: tuple[Any, ...]
    future: Future[Any]


class Batched:
    """`width` trainings in each slot of `workers`, another executor; by default of processes if there are several."""

    def __init__(self, resources: Resources, workers: Executor | None = None, width: int | None = None) -> None:
        several = resources.workers > 1 or resources.on != "cpu"
        self.workers: Executor = workers or (Processes(resources) if several else Serial(resources))
        self.width = width or resources.replicas or 1
        self._waiting: list[_Waiting] = []
        self._running: dict[Future[Any], list[Future[Any]]] = {}

    @property
    def slots(self) -> int:
        """Those of the workers."""
        return self.workers.slots

    @property
    def machines(self) -> int:
        """Those of the workers."""
        return self.workers.machines

    @property
    def free(self) -> int:
        """How many calls may be submitted now: what the free workers have room for."""
        return max(0, self.workers.free * self.width - len(self._waiting))

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A training waits for company; anything else runs at once, and so does one that goes on from a checkpoint.

        That one may be what its worker died of: nothing that has ended must be in the same call.
        """
        if function is not worker.evaluate or _goes_on(args):
            return self.workers.submit(function, *args, **kwargs)
        future: Future[Any] = Future()
        self._waiting.append(_Waiting(args, future))
        return future

    def start(self) -> list[Future[Any]]:
        """All that waits; the futures of what runs from now on."""
        if not self.workers.free:
            return []  # the idle ones are kept for a call that wants to be alone
        waiting, self._waiting = self._waiting, []
        groups = self._shared_out(waiting)
        self._running = {call: members for call, members in self._running.items() if not call.done()}
        for group in groups:
            futures = [one.future for one in group]
            for future in futures:
                future.set_running_or_notify_cancel()
            tasks, desks = ([one.arguments[i] for one in group] for i in (0, 1))
            call = self.workers.submit(worker.evaluate_together, tasks, desks)
            self._running[call] = futures
            call.add_done_callback(partial(_hand_out, futures))
        return [one.future for group in groups for one in group]

    def alone(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T] | None:
        """As the workers do it, not stacked."""
        return self.workers.alone(function, *args, **kwargs)

    def place(self, future: Future[Any]) -> Place | None:
        """Where a training runs that was started."""
        if any(one.future is future for one in self._waiting):
            return None
        call = next((call for call, members in self._running.items() if future in members), future)
        return self.workers.place(call)

    def forget(self) -> None:
        """What waits is not wanted any more."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.future.cancel()
        self.workers.forget()

    def close(self, wait: bool = True) -> None:
        """As the workers do."""
        self.workers.close(wait)

    def _shared_out(self, waiting: Sequence[_Waiting]) -> list[list[_Waiting]]:
        """Consecutive ones for each free worker, as even as can be: neighbours are of one arm or one seed."""
        free = min(self.workers.free, len(waiting))
        ends = [round(i * len(waiting) / free) for i in range(free + 1)] if free else []
        return [list(waiting[a:b]) for a, b in pairwise(ends)]


def _goes_on(arguments: Sequence[Any]) -> bool:
    """Whether a training has a checkpoint."""
    _, desk = arguments
    return desk is not None and desk.claim.saved


def _hand_out(futures: Sequence[Future[Any]], call: Future[list[Any]]) -> None:
    """Each training's own verdict, or what the call as a whole came to."""
    error = call.exception()
    verdicts = [error] * len(futures) if error is not None else call.result()
    for future, verdict in zip(futures, verdicts, strict=True):
        if isinstance(verdict, BaseException):
            future.set_exception(verdict)
        else:
            future.set_result(verdict)
