"""What the ledger takes beside Optuna's RDBStorage: one run, one machine, one file system, round by round in turn.

    make bench-storage                  # the tables of studies/storage/README.md; ten minutes on a quiet machine
    … tests/benchmarks/storage.py listings       # a part: trials, listings or contention

SQLite in a temporary folder (TMPDIR chooses the disk) and, where a server can be had, PostgreSQL: the one that
HPO_TEST_POSTGRES names, else one started here that syncs as a server does. `tuned` is Optuna on SQLite with the journal
and the syncing that the ledger sets (write-ahead, NORMAL). Every figure is the median of rounds after a first one that
does not count.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import optuna
import sqlalchemy
from storage_contention import ours_drained, theirs_drained
from storage_databases import databases
from storage_sides import Ours, Theirs, adopted, drawn, outcome, run, storage, study

from hpo.storage.ledger import Ledger

ROUNDS = 5
LENGTH, POINTS, MANY, STUDIES = 100_000, 1_000, 10_000, 100
PROCESSES = (1, 2, 4, 8)

HPO = [sys.executable, "-c", "from hpo.cli import main; main()"]
SHOW = """
import json, os, time
from hpo.reports import listing
from hpo.storage.ledger import Ledger
with Ledger.open(os.environ["HPO_STORAGE"], create=False) as ledger:
    begun = time.perf_counter(); ledger.figures("many"); figures = time.perf_counter() - begun
    begun = time.perf_counter(); json.dumps(listing.show(ledger, "many"), indent=2)
    print(figures, time.perf_counter() - begun)
"""
LIST = """
import os, time
from hpo.reports import listing
from hpo.storage.ledger import Ledger
begun = time.perf_counter()
with Ledger.open(os.environ["HPO_STORAGE"], create=False) as ledger: listing.studies(ledger)
print(time.perf_counter() - begun)
"""
LOAD = """
import os, time, optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
loaded = optuna.load_study(study_name=None, storage=os.environ["HPO_STORAGE"])
begun = time.perf_counter(); loaded.trials; print(time.perf_counter() - begun)
"""
SUMMARIES = "import os, optuna; optuna.get_all_study_summaries(os.environ['HPO_STORAGE'])"

Took = dict[str, list[float]]


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begun = clock()
    call()
    return clock() - begun


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> Took:
    """A, B, A, B …: the figures of each side, the first round left out."""
    found: Took = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            found[name].append(side())
    return {name: figures[1:] for name, figures in found.items()}


def each(count: int, call: Callable[[int], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of one of so many."""
    return 1e3 * seconds(lambda: call(count), clock) / count


def more(count: int, long: Callable[[], object], short: Callable[[], object]) -> float:
    """Milliseconds by which one takes longer than the other: medians of so many, in turn."""
    pairs = [(seconds(long), seconds(short)) for _ in range(count)]
    first, second = (statistics.median(taken) for taken in zip(*pairs, strict=True))
    return 1e3 * (first - second)


class Table:
    """Figures by row and column, printed as they come and as Markdown at the end."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[str, str]] = {}

    def put(self, row: str, took: Took, shape: str = "{:.3g}") -> None:
        for column, figures in took.items():
            cell = shape.format(statistics.median(figures))
            if len(figures) > 1:
                cell += " (" + " … ".join(shape.format(f) for f in (min(figures), max(figures))) + ")"
            self._cells.setdefault(row, {})[column] = cell
            print(f"{row:<72} {column:<22} {cell}", flush=True)

    def print(self) -> None:
        columns = list(dict.fromkeys(c for cells in self._cells.values() for c in cells))
        print("\n| " + " | ".join(["", *columns]) + " |\n" + "|---" * (1 + len(columns)) + "|")
        for row, cells in self._cells.items():
            print("| " + " | ".join([row, *(cells.get(c, "") for c in columns)]) + " |")


def trials(table: Table, kind: str, new: Callable[[], str]) -> None:
    """Rows about single trials, in one database a side."""
    with Ledger.open(new()) as ledger, ExitStack() as stack:
        ledger.begin(study("trials"), {})
        ours = Ours(ledger, stack.enter_context(ledger.attend("trials", 1)))
        sides = {f"Optuna {kind}": Theirs(storage(new()))}
        if kind == "SQLite":
            sides["Optuna SQLite, tuned"] = Theirs(storage(new(), tuned=True))

        def against(row: str, own: Callable[[], float], other: Callable[[Theirs], float], rounds: int = ROUNDS) -> None:
            table.put(row, in_turn({f"hpo {kind}": own, **{k: partial(other, s) for k, s in sides.items()}}, rounds))

        against(
            "a trial of 5 values (ms, aim 5)",
            lambda: each(100, ours.scalars),
            lambda their: each(10, their.scalars),
        )
        against(
            "of that, processor time of the process that asks (ms)",
            lambda: each(100, ours.scalars, time.process_time),
            lambda their: each(10, their.scalars, time.process_time),
        )
        counted = iter(range(10**6))
        against(
            "the whole loop, a training that takes no time (ms)",
            lambda: each(200, lambda n: run(ledger, study(f"loop{next(counted)}", trials=n))),
            lambda their: each(10, their.optimize),
        )
        vector, slopes = {"h0": drawn(LENGTH)}, {"h0": drawn(LENGTH)}
        against(
            "a trial of 100,000 values and as many slopes (ms, aim 20); Optuna: one list of 100,000",
            lambda: each(10, lambda n: [ours.trial(vector, outcome(hypergradient=slopes)) for _ in range(n)]),
            lambda their: 1e3 * seconds(lambda: their.attribute(LENGTH)),
        )
        for size in (100, 1_000):
            row = {"h0": drawn(size)}
            against(
                f"a trial of {size:,} values (ms); Optuna: as many parameters",
                lambda row=row: each(50, lambda n: [ours.trial(row, outcome()) for _ in range(n)]),
                lambda their, size=size: 1e3 * seconds(lambda: their.scalars(1, size)),
                ROUNDS if size == 100 else 1,
            )
        against(
            "a curve of 1,000 points: a trial with it less one without (ms, aim 2); Optuna: ten times 100 reports",
            lambda: more(100, lambda: ours.scalars(1, POINTS), lambda: ours.scalars(1, 0)),
            lambda their: 10 * more(1, lambda: their.reports(100), lambda: their.reports(0)),
        )
        claim = ours.claim(ours.standing(), {"h0": drawn(1)})
        assert claim is not None
        for size in (1, 100):
            state = {"w": drawn(size * 2**20 // 8)}
            saved = in_turn({f"hpo {kind}": lambda state=state: 1e3 * seconds(lambda: ledger.save(claim, state))})
            table.put(f"saving a checkpoint of {size} MB (ms)", saved)
            loaded = in_turn({f"hpo {kind}": lambda: 1e3 * seconds(lambda: ledger.saved(claim))})
            table.put(f"loading it, {size} MB (ms)", loaded)


def process(url: str, *command: str) -> str:
    """What a new process says."""
    environment = os.environ | {"HPO_STORAGE": url}
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def whole(url: str, *command: str) -> float:
    return seconds(lambda: process(url, *command))


def listings(table: Table, kind: str, new: Callable[[], str]) -> None:
    """Rows about reading, each figure from a new process."""
    own, other = new(), new()
    with Ledger.open(own) as ledger:
        adopted(ledger, "many", 10, MANY)
    first = Theirs(storage(other))
    first.scalars(1, 10)
    first.multiply(1, MANY)
    inside: Took = {"figures": [], "show": []}
    for _ in range(ROUNDS):
        for name, figure in zip(inside, process(own, sys.executable, "-c", SHOW).split(), strict=True):
            inside[name].append(float(figure))
    table.put("10,000 trials of 10 values: ledger.figures (s, aim 1)", {f"hpo {kind}": inside["figures"]})
    theirs = {f"Optuna {kind}": [float(process(other, sys.executable, "-c", LOAD)) for _ in range(ROUNDS)]}
    table.put("the same as JSON (s, aim 1); Optuna: study.trials", {f"hpo {kind}": inside["show"]} | theirs)
    starts = {f"hpo {kind}": lambda: whole(own, *HPO, "--help")}
    starts[f"Optuna {kind}"] = lambda: whole(other, sys.executable, "-c", "import optuna")
    table.put("hpo --help; import optuna (s)", in_turn(starts))
    both = {f"hpo {kind}": lambda: whole(own, *HPO, "show", "many", "--json")}
    both[f"Optuna {kind}"] = lambda: whole(other, sys.executable, "-c", LOAD)
    table.put("10,000 trials, the whole process: hpo show --json; study.trials (s)", in_turn(both))

    few, own, other = new(), new(), new()
    for url, studies in ((few, 1), (own, STUDIES)):
        with Ledger.open(url) as ledger:
            for i in range(studies):
                adopted(ledger, f"study{i}", 5, 100)
    first = Theirs(storage(other))
    first.scalars(1, 5)
    first.multiply(STUDIES, 100)
    both = {f"hpo {kind}": lambda: whole(own, *HPO, "list", "--json")}
    both[f"Optuna {kind}"] = lambda: whole(other, sys.executable, "-c", SUMMARIES)
    table.put("100 studies of 100 trials, the whole process: hpo list; study summaries (s)", in_turn(both))
    table.put("hpo list of one study: its start-up (s)", in_turn({f"hpo {kind}": lambda: whole(few, *HPO, "list")}))
    again: Took = {f"hpo {kind}": [float(process(own, sys.executable, "-c", LIST)) for _ in range(ROUNDS)]}
    table.put("100 studies of 100 trials, without start-up (s, aim 0.5)", again)


def contention(table: Table, kind: str, new: Callable[[], str]) -> None:
    for count in PROCESSES:
        sides = {
            f"hpo {kind}": partial(ours_drained, new, count),
            f"Optuna {kind}": partial(theirs_drained, new, count),
        }
        table.put(f"one arm, {count} processes (trials a second)", in_turn(sides, 3), "{:.0f}")


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table, before = Table(), os.getloadavg()[0]
    with databases() as kinds:
        parts = {part.__name__: part for part in (trials, listings, contention)}
        for name in sys.argv[1:] or parts:
            for kind, new in kinds.items():
                parts[name](table, kind, new)
    table.print()
    versions = {"Python": platform.python_version(), "SQLAlchemy": sqlalchemy.__version__}
    versions |= {"SQLite": sqlite3.sqlite_version, "Optuna": optuna.__version__}
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"\n{os.cpu_count()} cores, load {before:.1f} before, {os.getloadavg()[0]:.1f} at the end; {shown}")


if __name__ == "__main__":
    main()
