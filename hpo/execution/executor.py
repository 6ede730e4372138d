"""What the loop needs to place work: slots, and futures of `concurrent.futures`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, Protocol, TypeVar

from hpo.spec import Resources

P = ParamSpec("P")
T = TypeVar("T")


class Executor(Protocol):
    """Made as `Executor(resources)`. At most `slots` calls run at once; the caller submits no more than that."""

    slots: int

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run function(*args); the future carries its result, its exception, or BrokenExecutor if the worker died."""
        ...

    def close(self, wait: bool = True) -> None:
        """End all workers: after their work, or, given a moment to save it, at once."""
        ...


def choose(execution: str, resources: Resources) -> str:
    """The executor `auto` stands for: processes for several workers or a GPU, else serial."""
    if execution != "auto":
        return execution
    return "processes" if resources.workers > 1 or resources.gpus else "serial"


def done(function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """A future that is finished when it is made."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    try:
        future.set_result(function(*args, **kwargs))
    except Exception as error:
        future.set_exception(error)
    return future
