"""One training after another, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from hpo.execution.executor import P, T, done, warn_if_crowded
from hpo.execution.place import Place
from hpo.resources import Resources


class Serial:
    """The simplest executor: `submit` returns when the work is done."""

    machines = width = 1

    def __init__(self, resources: Resources) -> None:
        warn_if_crowded(1, resources.cpus)
        self.slots = self.free = 1

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call it now."""
        return done(function, *args, **kwargs)

    def start(self) -> Sequence[Future[Any]]:
        """Nothing to do: what is submitted has run."""
        return ()

    def alone(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Nothing else runs, ever."""
        return done(function, *args, **kwargs)

    def place(self, future: Future[Any]) -> Place:
        """Here."""
        del future
        return Place(0, os.getpid())

    def forget(self) -> None:
        """Nothing waits."""

    def close(self, wait: bool = True) -> None:
        """Nothing to end."""
