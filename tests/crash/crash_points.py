"""hpo, hit by a signal at a named moment of a run; the product knows nothing of it.

    python tests/crash/crash_points.py POINT SIGNAL COUNT TALLY [--worker] -- run study.yaml --storage URL …

When the point is reached the COUNT-th time, counted in the file TALLY over all processes of the run, the run gets
SIGNAL; with --worker the worker that reached it gets it. Every stop of a training is saved, however long that takes.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpo.execution import processes, worker
from hpo.storage import arrays, claims
from hpo.storage import ledger as verbs
from hpo.storage.ledger import Ledger
from hpo.storage.tables import CheckpointRow

Hit = Callable[[], None]


def _before(hit: Hit, owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def wrapped(*args: Any, **named: Any) -> Any:
        if when(*args):
            hit()
        return inner(*args, **named)

    setattr(owner, name, wrapped)


def _after(hit: Hit, owner: Any, name: str) -> None:
    """After it came to something: neither None nor False."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def wrapped(*args: Any, **named: Any) -> Any:
        result = inner(*args, **named)
        if result is not None and result is not False:
            hit()
        return result

    setattr(owner, name, wrapped)


def _written(hit: Hit, owner: Any, name: str) -> None:
    """Inside a transaction: all of it is written, nothing committed."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def wrapped(session: Any, *args: Any) -> Any:
        result = inner(session, *args)
        session.flush()
        hit()
        return result

    setattr(owner, name, wrapped)


def _saving() -> Any:
    from hpo import saving  # torch: only in the process that trains

    return saving


POINTS: dict[str, Callable[[Hit], None]] = {
    "beginning": lambda hit: _written(hit, verbs, "begin"),
    "attending": lambda hit: _after(hit, Ledger, "_attend"),
    "claimed": lambda hit: _after(hit, Ledger, "claim"),
    "resuming": lambda hit: _after(hit, Ledger, "take_up"),
    "mid-training": lambda hit: _before(hit, _saving().Saving, "note"),
    "checkpoint-half-written": lambda hit: _before(hit, arrays, "pack", lambda *args: CheckpointRow in args),
    "checkpoint-written": lambda hit: _after(hit, Ledger, "save"),
    "outcome-computed": lambda hit: _before(hit, Ledger, "close_trial"),
    "closing": lambda hit: _written(hit, claims, "close"),
    "closed-not-told": lambda hit: _after(hit, Ledger, "close_trial"),
}


def _hit(sent: signal.Signals, count: int, tally: Path, worker_alone: bool) -> Hit:
    def hit() -> None:
        with tally.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b".")
            file.flush()
            reached = file.tell()
        if reached != count:
            return
        parent = None if worker_alone else multiprocessing.parent_process()
        os.kill(os.getpid() if parent is None or parent.pid is None else parent.pid, sent)
        if parent is not None and sent == signal.SIGKILL:
            time.sleep(60)  # go no further: the worker ends with its parent

    return hit


def _armed(point: str, hit: Hit) -> None:
    inner, late = worker.evaluate, point == "mid-training"

    @functools.cache
    def in_training() -> None:
        _saving().SHARE = 0
        if late:
            POINTS[point](hit)

    @functools.wraps(inner)
    def evaluate(*args: Any) -> Any:
        in_training()
        return inner(*args)

    worker.evaluate = evaluate
    if not late:
        POINTS[point](hit)


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    cut = sys.argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("point", choices=POINTS)
    parser.add_argument("signal", type=signal.Signals.__getitem__)
    parser.add_argument("count", type=int)
    parser.add_argument("tally", type=Path)
    parser.add_argument("--worker", action="store_true")
    return parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]


if __name__ in ("__main__", "__mp_main__"):  # a worker process runs this file again, under the second name
    processes._nameless = contextlib.nullcontext  # here workers are to run this file, which arms them
    asked, command = _arguments()
    _armed(asked.point, _hit(asked.signal, asked.count, asked.tally, asked.worker))
    if __name__ == "__main__":
        from hpo.cli import main

        main(command, prog_name="hpo")
