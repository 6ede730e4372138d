"""A thread that says every few seconds that this run is alive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpo.failures import BadStorage


@contextmanager
def beating(beat: Callable[[], bool], seconds: float) -> Iterator[None]:
    """Calls `beat` every so many seconds until the block ends, or until it answers False: the lease is gone.

    A database that does not answer is asked again at the next beat; the verbs of the run tell the user of it.
    """
    ended = threading.Event()

    def beats() -> None:
        while not ended.wait(seconds):
            try:
                if not beat():
                    return
            except BadStorage:
                continue

    thread = threading.Thread(target=beats, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
