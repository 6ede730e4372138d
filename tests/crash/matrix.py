"""Every named point of a run, every signal, both executors, both databases: no trial is lost, done twice or changed.

    python tests/crash/matrix.py                    make crash-test: all of it, some twenty minutes on two cores
    python tests/crash/matrix.py closing resuming   these points only

Exits with 1 if anything was. Without a PostgreSQL server here the half that needs one is left out, and that is said.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from crash_case import METHODS, STEPS, TRAININGS, Case, Verdict, strike, unbroken  # noqa: E402
from postgresql_cluster import Cluster, missing  # noqa: E402
from sqlalchemy import create_engine, make_url, text  # noqa: E402

AT_ONCE = 2
ROUND = len(METHODS) * STEPS
"""Stops after which every arm has had one more trial."""

STOPS = (5, STEPS + 6, 2 * STEPS + 7, ROUND + STEPS)
"""In drmad's first trial, in exact's, in online's; at the end of drmad's second."""

TRIALS = (1, len(METHODS) + 2, TRAININGS * len(METHODS))
"""The first trial, one on the way, the last."""

COUNTS: dict[str, tuple[int, ...]] = {
    "beginning": (1,),
    "attending": (1,),
    "claimed": TRIALS,
    "resuming": (1,),
    "mid-training": STOPS,
    "checkpoint-half-written": STOPS,
    "checkpoint-written": STOPS[::2],
    "outcome-computed": TRIALS,
    "closing": TRIALS,
    "closed-not-told": TRIALS,
}
INTERRUPTED = ("beginning", "mid-training", "closing")
"""Where SIGINT, too, is tried: it goes the way of SIGTERM."""


class Line(NamedTuple):
    """A line of the table: the cases that differ in their count alone."""

    point: str
    signal: str
    executor: str
    worker: bool
    database: str

    def cases(self) -> Iterator[Case]:
        counts = COUNTS[self.point]
        if self.signal != "SIGKILL" or self.worker:
            counts = counts[::2]
        for count in counts[: 1 if self.signal == "SIGINT" else None]:
            yield Case(self.point, self.signal, count, self.executor, self.worker)

    def __str__(self) -> str:
        struck = f"{self.executor}{', a worker' if self.worker else ''}"
        return f"{self.point:<24}{self.signal:<9}{struck:<22}{self.database:<12}"


def lines(points: list[str], databases: list[str]) -> Iterator[Line]:
    for point in points:
        for database in databases:
            for executor in ("serial", "processes"):
                for sent in ("SIGKILL", "SIGTERM", "SIGINT")[: 3 if point in INTERRUPTED else 2]:
                    yield Line(point, sent, executor, False, database)
            for sent in ("SIGKILL", "SIGTERM") * (point in ("mid-training", "checkpoint-half-written")):
                yield Line(point, sent, "processes", True, database)


class Matrix:
    """All cases of some points, each on a database of its own."""

    def __init__(self, points: list[str], cluster: Cluster | None, folder: Path) -> None:
        databases = ["sqlite"] + ["postgresql"] * (cluster is not None)
        self.todo = [(line, case) for line in lines(points, databases) for case in line.cases()]
        self._cluster, self._folder = cluster, folder
        self._expected = unbroken(folder)

    def tried(self, number: int) -> Verdict:
        line, case = self.todo[number]
        place = self._folder / str(number)
        place.mkdir()
        storage = f"sqlite:///{place}/hpo.db" if line.database == "sqlite" else self._schema(f"case_{number}")
        return strike(case, storage, place, self._expected)

    def _schema(self, name: str) -> str:
        assert self._cluster is not None
        engine = create_engine(self._cluster.url)
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        engine.dispose()
        url = make_url(self._cluster.url).update_query_dict({"options": f"-csearch_path={name}"})
        return url.render_as_string(hide_password=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="*", choices=[*COUNTS, []], metavar="POINT", help=", ".join(COUNTS))
    points = parser.parse_args().points or list(COUNTS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun, reason = time.monotonic(), missing()
    with ExitStack() as stack:
        cluster = None if reason else stack.enter_context(Cluster())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hpo-crash-"))
        matrix = Matrix(points, cluster, Path(folder))
        pool = ThreadPoolExecutor(AT_ONCE)
        stack.callback(pool.shutdown, cancel_futures=True)  # also when it is interrupted
        found = shown(matrix.todo, pool.map(matrix.tried, range(len(matrix.todo))))
    if reason:
        print(f"PostgreSQL is left out: {reason}")
    injected, lost, twice, differing, faults = figures(found)
    minutes = (time.monotonic() - begun) / 60
    print(
        f"points {len(points)}, faults injected {injected} of {len(found)}, trials lost {lost}, twice {twice}, "
        f"differing {differing}, other faults {faults}; {minutes:.0f} min"
    )
    return 0 if (injected, lost, twice, differing, faults) == (len(found), 0, 0, 0, 0) else 1


def shown(todo: list[tuple[Line, Case]], verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Prints the table as it grows: a line when its cases are done, what was wrong above it."""
    print(f"{'point':<24}{'signal':<9}{'executor':<22}{'database':<12} faults   lost  twice  differing  else")
    found: dict[Line, list[Verdict]] = {}
    for (line, case), verdict in zip(todo, verdicts, strict=True):
        found.setdefault(line, []).append(verdict)
        for fault in [*verdict.faults, *([] if verdict.injected else ["the point was not reached"])]:
            print(f"  {case} {line.database}: {fault}", flush=True)
        if len(found[line]) == len(list(line.cases())):
            injected, *rest = figures(found[line])
            print(f"{line}{injected:>3} of {len(found[line])}{{:>6}}{{:>7}}{{:>11}}{{:>6}}".format(*rest), flush=True)
    return [verdict for of_line in found.values() for verdict in of_line]


def figures(verdicts: list[Verdict]) -> tuple[int, ...]:
    return (
        sum(v.injected for v in verdicts),
        sum(v.lost for v in verdicts),
        sum(v.twice for v in verdicts),
        sum(v.differing for v in verdicts),
        sum(len(v.faults) for v in verdicts),
    )


if __name__ == "__main__":
    sys.exit(main())
