"""The evidence: what per-neuron hypergradients are worth on fifteen data sets, beside black-box search and controls.

    python studies/evidence/evidence.py run      # every study that is not finished; stop it and go on at any time
    python studies/evidence/evidence.py write    # tables.md, losses.csv and figures (by Chromium) of what is finished

HPO_DATA is the data folder (MNIST, Fashion-MNIST, CIFAR-10 and tabular/*.csv.gz); without it the three sets that come
with scikit-learn are run. The database is evidence.db here, or --storage URL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml

HERE = Path(__file__).parent
FILES = HERE / "files"
STORAGE = f"sqlite:///{HERE / 'evidence.db'}"
SEEDS = 5
TRAININGS = 30
"""The budget of an arm, in the gradient evaluations of so many plain trainings."""


class Set(NamedTuple):
    """A data set, its split in rows (the rest is test, or the set's own test part), widths, and steps of a training."""

    data: str
    train: int
    validation: int
    widths: tuple[int, ...]
    steps: int = 600
    batch_size: int = 100


TABLE = "tabular/{}.csv.gz"
SETS = {
    "digits": Set("digits", 300, 600, (50, 50, 50)),
    "breast-cancer": Set("breast-cancer", 200, 150, (50, 50)),
    "wine": Set("wine", 60, 58, (50, 50), batch_size=30),
    "phoneme": Set(TABLE.format("phoneme"), 1000, 1000, (50, 50)),
    "credit-g": Set(TABLE.format("credit_g"), 400, 300, (50, 50)),
    "kr-vs-kp": Set(TABLE.format("kr_vs_kp"), 1000, 1000, (50, 50)),
    "vehicle": Set(TABLE.format("vehicle"), 300, 250, (50, 50)),
    "letter": Set(TABLE.format("letter"), 2000, 2000, (50, 50), steps=1000),
    "adult": Set(TABLE.format("adult"), 1000, 1000, (50, 50)),
    "california-housing": Set(TABLE.format("california_housing"), 1000, 1000, (50, 50)),
    "diamonds": Set(TABLE.format("diamonds"), 1000, 1000, (50, 50)),
    "fashion-1k": Set("fashion-mnist", 1000, 1000, (50, 50, 50)),
    "mnist-1k": Set("mnist", 1000, 1000, (50, 50, 50)),
    "cifar-1k": Set("cifar10", 1000, 1000, (50, 50, 50)),
    "mnist-5k": Set("mnist", 5000, 2000, (50, 50, 50), steps=1000),
}
"""The quick ones first: whoever breaks off has whole data sets."""

BUNDLED = ("digits", "breast-cancer", "wine")

L2: dict[str, Any] = {"low": 1e-6, "high": 1.0, "default": 1e-3}
RATE: dict[str, Any] = {"low": 3e-3, "high": 0.5, "default": 0.05}

DESCENTS: list[dict[str, Any]] = [
    {"name": "drmad"},
    {"name": "drmad", "per": "layer", "label": "drmad-layer"},
    {"name": "exact"},
]
NAMES = ("random", "tpe", "gp", "cmaes", "skopt-gp")
SEARCHES: list[dict[str, Any]] = [
    *({"name": name, "per": per} for name in NAMES for per in ("global", "layer")),
    *({"name": "random", "pruner": "asha", "per": per, "label": f"asha-{per}"} for per in ("global", "layer")),
]
STOPS = 10
"""Early stopping alone chooses among so many points of a training."""


def comparison(name: str) -> list[dict[str, Any]]:
    """Descents and searches on one data set, over the same space with the same budget."""
    space = {"l2": {"per": "neuron", **L2}, "learning_rate": {"per": "layer", **RATE}}
    budget = {"gradient_evaluations": TRAININGS * SETS[name].steps}
    return [
        _study(name, f"{name}-{part}", space, methods, budget)
        for part, methods in (("descents", DESCENTS), ("searches", SEARCHES))
    ]


def controls(name: str) -> list[dict[str, Any]]:
    """What each half of the space does alone, and trainings without L2 that stop early, or not at all."""
    alone = {"gradient_evaluations": TRAININGS * SETS[name].steps}
    l2, rate = {"l2": {"per": "global", **L2}}, {"learning_rate": {"per": "global", **RATE}}
    once, off = {"trainings": 1}, {"l2": {"low": 0.0, "high": 1e-6, "default": 0.0, "log": False}}
    steps = [round((i + 1) * SETS[name].steps / STOPS) for i in range(STOPS)]
    solvers = [{"name": "sgd", "steps": s, "label": f"{s} steps"} for s in steps]
    return [
        _study(name, f"{name}-l2-alone", l2, [{"name": "tpe", "label": "l2-alone"}], alone),
        _study(name, f"{name}-rate-alone", rate, [{"name": "tpe", "label": "rate-alone"}], alone),
        _study(name, f"{name}-stopped", off, [{"name": "random", "label": "stopped"}], once, solvers),
    ]


def _study(
    data: str,
    name: str,
    space: dict[str, Any],
    methods: list[dict[str, Any]],
    budget: dict[str, Any],
    solvers: list[dict[str, Any]] | str = "sgd",
) -> dict[str, Any]:
    the = SETS[data]
    return {
        "name": f"evidence-{name}",
        "problem": {
            "data": the.data,
            "split": {"train": the.train, "validation": the.validation},
            "model": {"mlp": list(the.widths), "activation": "relu"},
        },
        "training": {"solver": solvers, "steps": the.steps, "batch_size": the.batch_size},
        "space": space,
        "methods": methods,
        "budget": budget,
        "seeds": SEEDS,
        "resources": {"workers": 1, "replicas": 16},
        "execution": "batched",
    }


def names() -> list[str]:
    """The data sets that can be had here, in the order of `SETS`."""
    return [name for name in SETS if os.environ.get("HPO_DATA") or name in BUNDLED]


def run_one(spec: dict[str, Any], storage: str, folder: Path) -> bool:
    """Run a study, or what is left of it, in a process of its own; what it prints goes to a log beside its file."""
    file = folder / f"{spec['name']}.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    began = time.monotonic()
    with file.with_suffix(".log").open("w") as log:
        command = [str(Path(sys.executable).with_name("hpo")), "run", str(file), "--storage", storage]
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    click.echo(
        f"{spec['name']}: {'done' if code == 0 else f'exit code {code}, see its log'}, {time.monotonic() - began:.0f} s"
    )
    return code == 0


@click.group()
def main() -> None:
    """The evidence, in parts that can be stopped and gone on with."""


@main.command()
@click.option("--storage", default=STORAGE, show_default=True)
@click.option("--at-once", default=os.cpu_count() or 1, show_default=True, help="Studies at once, a process each.")
@click.option("--only", default="", help="Only studies whose name has this in it.")
def run(storage: str, at_once: int, only: str) -> None:
    """Run every study that is not finished."""
    os.environ["OMP_NUM_THREADS"] = "1"
    FILES.mkdir(exist_ok=True)
    every = [spec for name in names() for spec in (*comparison(name), *controls(name))]
    wanted = [spec for spec in every if only in spec["name"]]
    with ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(lambda spec: run_one(spec, storage, FILES), wanted))
    sys.exit(0 if all(done) else 1)


@main.command()
@click.option("--storage", default=STORAGE, show_default=True)
def write(storage: str) -> None:
    """Write what came of it."""
    import tables

    tables.write(storage, HERE)


if __name__ == "__main__":
    main()
