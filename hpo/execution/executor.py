"""What the loop needs to place work: slots, and futures of `concurrent.futures`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, ParamSpec, Protocol, TypeVar

from hpo.execution.place import Place
from hpo.resources import Resources

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Executor(Protocol):
    """Made as `Executor(resources)`. At most `slots` calls run at once, of `width` trainings each; the caller submits
    no more than that.
    """

    @property
    def slots(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def machines(self) -> int:
        """How many it places work on: more than one do not share a file."""
        ...

    @property
    def free(self) -> int:
        """How many calls may be submitted now."""
        ...

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run function(*args); the future carries its result, its exception, or BrokenExecutor if the worker died."""
        ...

    def start(self) -> Sequence[Future[Any]]:
        """Nothing more is submitted before something ends: run what waits for company. Its futures, if there are."""
        ...

    def alone(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T] | None:
        """Run it with nothing else on its cards; None while that cannot be: ask again when a future is done."""
        ...

    def place(self, future: Future[Any]) -> Place | None:
        """Where a call runs that was submitted or started just now; None while it waits for company."""
        ...

    def forget(self) -> None:
        """Drop what was submitted or asked for and does not run yet; its futures are cancelled."""
        ...

    def close(self, wait: bool = True) -> None:
        """End all workers: after their work, or, given a moment to save it, at once."""
        ...


def choose(execution: str, resources: Resources) -> str:
    """The executor of a study's workers; `auto` and `batched`: processes for several of them or a GPU, else serial."""
    if execution not in ("auto", "batched"):
        return execution
    return "processes" if resources.workers > 1 or resources.gpus else "serial"


def warn_if_crowded(workers: int, cpus: int) -> None:
    """Say so when so many workers of so many cores each are more than this machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers * cpus > cores:
        log.warning(
            "resources: %d workers of %d CPUs share %d cores and wait for one another: use fewer", workers, cpus, cores
        )


def done(function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """A future that is finished when it is made."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    try:
        future.set_result(function(*args, **kwargs))
    except Exception as error:
        future.set_exception(error)
    return future
