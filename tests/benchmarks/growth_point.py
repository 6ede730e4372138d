"""One point of the growth bench, in a process of its own: what a study takes at one size, as JSON.

PYTHONPATH=.:tests python tests/benchmarks/growth_point.py AXIS METHOD SIZE
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import studies_small

from hpo import evaluation, preparation
from hpo import study as loop
from hpo.arm import ArmRun, strategy_for
from hpo.execution.place import Place
from hpo.preparation import Ready
from hpo.progress import Quiet
from hpo.saving import Saving
from hpo.spec import Study
from hpo.storage.ledger import Ledger
from hpo.trial import Trial

Figures = dict[str, float]

SPREAD = 200
"""Trials over which the time of one is taken, whatever the number of workers."""

FEW_STEPS = 20
ROWS = {"train": 200, "validation": 100}
TRIALS = 5
"""Of which the median is taken: the first one is at the defaults, the others follow from what came."""


class Watch(Quiet):
    """When each trial was closed, how long its training took, and which processes trained."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.took: list[float] = []
        self.processes: set[int] = set()

    def placed(self, arm: ArmRun, number: int, place: Place) -> None:
        if place.process is not None:
            self.processes.add(place.process)

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        assert trial.outcome is not None
        assert trial.outcome.usable, trial.outcome.failure
        self.at.append(time.perf_counter())
        self.took.append(trial.outcome.cost.seconds)


class Stopwatch:
    """Seconds of every call of some functions, by key."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, list[float]] = defaultdict(list)

    def around(self, owner: Any, name: str, key: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.calls[key].append(time.perf_counter() - begun)

        setattr(owner, name, timed)


def small(method: str, steps: int, trials: int, **changes: Any) -> Study:
    """One arm over a training of so many steps, in the process itself if nothing else is said."""
    grain = {} if method == "drmad" else {"per": "global"}
    usual = {
        "methods": [{"name": method, **grain}],
        "training": {"solver": "sgd", "steps": steps, "batch_size": 50},
        "budget": {"trainings": trials},
        "seeds": 1,
        "execution": "serial",
    }
    return studies_small.study(**{**usual, **changes})


@contextmanager
def ran(study: Study, watch: Watch, before: Callable[[Ready], None] = lambda ready: None) -> Iterator[Path]:
    """The folder of its database, which is closed; its workers still stand."""
    with tempfile.TemporaryDirectory() as folder, preparation.prepared(study, Path.cwd()) as ready:
        before(ready)
        with Ledger.open(f"sqlite:///{folder}/hpo.db") as ledger:
            loop.run(ready, ledger, watch, {})
        yield Path(folder)


def peak() -> float:
    """MB this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def held(process: int | str, kind: str) -> float:
    """MB of a process: `Rss`, or `Pss`, which shares what several have in common out among them."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 2**10


def below(process: int | str) -> list[str]:
    """All processes under one."""
    found: list[str] = []
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            found += [child, *below(child)]
    return found


def workers(method: str, size: int) -> Figures:
    """A study of trainings of one step by so many workers; `own` is what they and their server add to the machine."""
    begun, watch = time.perf_counter(), Watch()
    study = small(method, 1, SPREAD, execution="processes", resources={"workers": size})
    with ran(study, watch):
        return {
            "start-up s": watch.at[0] - watch.took[0] - begun,
            "trial s": (watch.at[-1] - watch.at[0]) / (SPREAD - 1),
            "parent MB": peak(),
            "workers MB": sum(held(process, "Rss") for process in watch.processes),
            "own MB": sum(held(process, "Pss") for process in below("self")),
        }


def trials(method: str, size: int) -> Figures:
    """So many trials of one step in one study; the time of one over the last tenth."""
    watch, last = Watch(), max(1, size // 10)
    with ran(small(method, 1, size), watch) as folder:
        return {
            "trial s": (watch.at[-1] - watch.at[-1 - last]) / last,
            "MB": peak(),
            "database MB": sum(file.stat().st_size for file in folder.iterdir()) / 2**20,
        }


def values(method: str, size: int) -> Figures:
    """An L2 strength for each of about so many weights: what the search takes beside the training, each a trial."""
    watch, clock = Watch(), Stopwatch()

    def timed(ready: Ready) -> None:
        [arm] = ready.study.arms()
        first = strategy_for(arm, ready.plans[arm.label])
        first.ask(0)  # what it loads is no trial's cost
        strategy = type(first)
        for owner, name, key in (
            (strategy, "ask", "ask s"),
            (Ledger, "claim", "claim s"),
            (Ledger, "close_trial", "close s"),
            (strategy, "tell", "tell s"),
            (Saving, "now", "save s"),
            (evaluation, "evaluate", "evaluate"),
        ):
            clock.around(owner, name, key)

    inputs = max(2, round(size**0.5))
    hidden = max(1, round(size / (inputs + 2)))
    draws = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as data:
        x = draws.standard_normal((400, inputs), dtype=np.float32)
        np.savez(f"{data}/arrays.npz", x=x, y=(x[:, 0] > x[:, 1]).astype(np.int64))
        study = small(
            method, FEW_STEPS, TRIALS,
            methods=[{"name": "drmad", "krylov": 4, "knots": 3} if method == "drmad" else method],
            problem={"data": f"{data}/arrays.npz", "split": ROWS, "model": {"mlp": [hidden]}},
            training={"solver": {"name": "sgd", "learning_rate": 0.01}, "steps": FEW_STEPS, "batch_size": 50},
            space={"l2": {"per": "weight", "low": 1e-6, "high": 1e-2, "default": 1e-3}},
            resources={"checkpoint": 0.0},
        )  # fmt: skip
        with ran(study, watch, timed):
            parts = {key: median(clock.calls[key]) for key in ("ask s", "claim s", "close s", "tell s", "save s")}
            training = median(clock.calls["evaluate"]) - sum(clock.calls["save s"]) / TRIALS
            count = float((inputs + 2) * hidden)
            return {"size": count, "hpo s": sum(parts.values()), "training s": training, **parts, "MB": peak()}


def steps(method: str, size: int) -> Figures:
    """A trial whose training has so many steps, its derivative included."""
    watch = Watch()
    with ran(small(method, size, 1), watch):
        return {"step s": watch.took[0] / size, "training s": watch.took[0], "MB": peak()}


AXES = {"workers": workers, "trials": trials, "values": values, "steps": steps}


if __name__ == "__main__":
    print(json.dumps(AXES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
