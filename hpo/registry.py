"""Where things are found by name: one line each, kept as import paths so that nothing is loaded before it is used.

Solvers and hypergradients keep their own lists (`solvers.SOLVERS`, `hpo.hypergradients.HYPERGRADIENTS`)
because both are usable without the rest of hpo.
"""

from __future__ import annotations

import importlib
from typing import Any

from hpo.hypergradients import HYPERGRADIENTS

STRATEGIES = {
    "descent": "hpo.strategies.restarts:Restarts",
    "relay": "hpo.strategies.relay:Relay",
    "random": "hpo.strategies.chance:Random",
    "tpe": "hpo.strategies.optuna:TPE",
    "gp": "hpo.strategies.optuna:GP",
    "cmaes": "hpo.strategies.optuna:CMAES",
    "qmc": "hpo.strategies.optuna:QMC",
    "skopt-gp": "hpo.strategies.skopt:GP",
    "skopt-rf": "hpo.strategies.skopt:RandomForest",
    "skopt-et": "hpo.strategies.skopt:ExtraTrees",
}

PRUNERS = {
    "asha": "hpo.pruning.pruners:ASHA",
    "hyperband": "hpo.pruning.pruners:Hyperband",
    "median": "hpo.pruning.pruners:Median",
}

MOVING = frozenset({"online"})
"""Hypergradients that move the values while a training runs."""

ALONGSIDE = MOVING | {"forward"}
"""Hypergradients that work while a training runs, on the vectors of the space; the others begin at its end."""

AGREEING = frozenset({"drmad", "truncated", "implicit"})
"""Hypergradients with an option `agreement: true`: each trial reports their cosine to the exact one."""

TOLD = frozenset({"derivative", "validation_rows", "nats"})
"""What the study tells a descent: no options of a method."""

DECIDERS = {name: "relay" if name in MOVING else "descent" for name in HYPERGRADIENTS}
"""Which strategy decides by a hypergradient; these strategies are no methods of their own."""

SOURCES = {
    "digits": "hpo.problems.bundled:Digits",
    "breast-cancer": "hpo.problems.bundled:BreastCancer",
    "wine": "hpo.problems.bundled:Wine",
    "diabetes": "hpo.problems.bundled:Diabetes",
    "mnist": "hpo.problems.images:MNIST",
    "fashion-mnist": "hpo.problems.images:FashionMNIST",
    "cifar10": "hpo.problems.images:CIFAR10",
}

EXECUTORS = {
    "serial": "hpo.execution.serial:Serial",
    "processes": "hpo.execution.processes:Processes",
    "batched": "hpo.execution.batched:Batched",
    "ray": "hpo.execution.ray_cluster:Ray",
}

LOGGERS = {
    "csv": "hpo.loggers.csv_file:CSV",
    "tensorboard": "hpo.loggers.tensorboard:TensorBoard",
    "mlflow": "hpo.loggers.mlflow:MLflow",
}


def resolve(path: str) -> Any:
    """The object behind `package.module:name`. Raises ImportError or AttributeError as Python words them."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
