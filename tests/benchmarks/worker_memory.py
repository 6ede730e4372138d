"""What one worker process holds after 100, 300 and 500 trials, each method in a new run: flat from 300 on (2 MB).

    PYTHONPATH=.:tests python tests/benchmarks/worker_memory.py [--gpu] [RUN …]

Real trainings (digits, 64-50-50-50-10, batch 50, 100 steps) with everything a trial brings: checkpoints, weights sent
back, hypergradients. MB of the resident set after a garbage collection; on a GPU also what the allocator keeps there.
"""

from __future__ import annotations

import gc
import resource
import sys
import tempfile
import time
from pathlib import Path

import studies_small

from hpo import preparation
from hpo import study as loop
from hpo.arm import ArmRun
from hpo.execution.executor import Executor
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger
from hpo.trial import Trial

AT = (100, 300, 500)

RUNS = {
    "random, sgd": ({"name": "random", "per": "global"}, "sgd"),
    "random, hsic": ({"name": "random", "per": "global"}, {"name": "hsic", "steps": 10}),
    "drmad, sgd": ({"name": "drmad"}, "sgd"),
    "exact, adam": ({"name": "exact"}, "adam"),
}


def held() -> tuple[float, float]:
    """MB of this process in main memory and on its card."""
    import torch

    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20, torch.cuda.memory_reserved() / 2**20


class Worker(Quiet):
    """What the worker holds after so many trials."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.found: list[tuple[float, float]] = []

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        if arm.closed in AT:
            self.found.append(self.executor.submit(held).result())


def measured(name: str, gpu: bool) -> list[tuple[float, float]]:
    method, solver = RUNS[name]
    study = studies_small.study(
        methods=[method],
        seeds=1,
        training={"solver": solver, "steps": 100, "batch_size": 50},
        problem={"data": "digits", "split": {"train": 300, "validation": 600}, "model": {"mlp": [50, 50, 50]}},
        budget={"trainings": AT[-1]},
        execution="processes",
        resources={"checkpoint": 0.02, "gpus": 1.0 if gpu else 0.0},
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(f"sqlite:///{folder}/hpo.db") as ledger,
        preparation.prepared(study, None) as ready,
    ):
        watcher = Worker(ready.executor)
        loop.run(ready, ledger, watcher, {})
    return watcher.found


def main() -> None:
    gpu = "--gpu" in sys.argv
    names = [name for name in sys.argv[1:] if name in RUNS] or list(RUNS)
    print(f"\n| MB in the worker after trials | {' | '.join(map(str, AT))} | seconds |\n|---{'|---' * len(AT)}|---|")
    for name in names:
        begun = time.monotonic()
        found = measured(name, gpu)
        shown = [f"{main:.1f}" + (f" + {card:.1f} on the card" if gpu else "") for main, card in found]
        print(f"| {name} | {' | '.join(shown)} | {time.monotonic() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    main()
