"""One training after another, in this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from hpo.execution.executor import P, T, done
from hpo.spec import Resources


class Serial:
    """The simplest executor: `submit` returns when the work is done."""

    def __init__(self, resources: Resources) -> None:
        del resources
        self.slots = 1

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call it now."""
        return done(function, *args, **kwargs)

    def close(self, wait: bool = True) -> None:
        """Nothing to end."""
