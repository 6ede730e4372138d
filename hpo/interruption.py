"""Ctrl-C and SIGTERM: KeyboardInterrupt, and a note that it was asked for.

The note matters where the exception gets lost on its way: compiled modules that are interrupted while they are loaded
say ImportError, and a library may swallow it. What then looks like a failure is none.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()


def asked() -> bool:
    """Whether an interruption was asked for since this process began to listen."""
    return _asked.is_set()


def interrupt(number: int, frame: FrameType | None) -> None:
    """The signals' handler. Raises KeyboardInterrupt."""
    del number, frame
    _asked.set()
    raise KeyboardInterrupt


def listen(*signals: signal.Signals) -> None:
    """From now on these signals interrupt, whatever the process inherited."""
    for each in signals:
        signal.signal(each, interrupt)


@contextmanager
def listening() -> Iterator[None]:
    """Ctrl-C and SIGTERM interrupt the block. After it they do what they did before, and what was asked for is over."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    before = {sent: signal.signal(sent, interrupt) for sent in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)
        _asked.clear()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM interrupts the block, so that a worker can save what it has; outside it does what it did before.

    In a process that does not listen by itself, what was asked for in an earlier block is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    if before is not interrupt:
        _asked.clear()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def deferred() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block has ended: what it does must not be left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    waiting: list[int] = []
    handlers = {sent: signal.getsignal(sent) for sent in (signal.SIGINT, signal.SIGTERM)}
    handled = {int(sent): handler for sent, handler in handlers.items() if callable(handler)}
    try:
        for sent in handled:
            signal.signal(sent, lambda number, _: waiting.append(number))
        yield
    finally:
        for sent, handler in handled.items():
            signal.signal(sent, handler)
        if waiting:
            handled[waiting[0]](waiting[0], None)
