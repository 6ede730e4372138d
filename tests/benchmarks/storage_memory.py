"""What a long run holds in memory: the resident set after 200, 1,000 and 2,000 trials, each method in a new process.

    make bench-storage

Random search and TPE over five values with trainings that take no time, and DrMAD, an L2 strength per neuron, with real
ones of a few steps on digits. Flat: after the first 200 trials less than 10 MB more.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import optuna
import studies_small
from storage_sides import run, study

from hpo import preparation
from hpo import study as loop
from hpo.arm import ArmRun
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger
from hpo.trial import Trial

AT = (200, 1_000, 2_000)


class Resident(Quiet):
    """MB in use after so many trials."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        if arm.closed in AT:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.found.append(pages * resource.getpagesize() / 2**20)


def measured(method: str) -> list[float]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    watcher = Resident()
    with tempfile.TemporaryDirectory() as folder, Ledger.open(f"sqlite:///{folder}/hpo.db") as ledger:
        if method == "drmad":
            changes = {"methods": [{"name": "drmad", "krylov": 2, "knots": 3}], "seeds": 1}
            small = studies_small.study(**changes, budget={"trainings": AT[-1]})
            with preparation.prepared(small, None) as ready:
                loop.run(ready, ledger, watcher, {})
        else:
            run(ledger, study("memory", trials=AT[-1], method=method), watcher)
    return watcher.found


def main() -> None:
    spawn = multiprocessing.get_context("spawn")
    print(
        "\n| MB after trials | "
        + " | ".join(f"{at:,}" for at in AT)
        + " | seconds |\n|---"
        + "|---" * len(AT)
        + "|---|"
    )
    for method in sys.argv[1:] or ("random", "tpe", "drmad"):
        begun = time.monotonic()
        with spawn.Pool(1) as pool:
            found = pool.apply(measured, (method,))
        shown = " | ".join(f"{mb:.1f}" for mb in found)
        print(f"| {method} | {shown} | {time.monotonic() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    main()
