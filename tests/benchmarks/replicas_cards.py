"""Studies whose trainings share a card: four beside one at a time, and some that a quarter of it has no room for."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing

import studies_small

from hpo import preparation
from hpo import study as loop
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger

STEPS, FEW = 600, 20


def on_cards(trials: int) -> None:
    """Four trainings to a card beside one after another, and one that a quarter of a card has no room for."""
    print("\n| study | trials | seconds per trial | ended | out of memory |\n|---|---:|---:|---|---:|", flush=True)
    quarter = {"workers": 4, "gpus": 0.25}
    _study("one to a card", trials, {"workers": 1, "gpus": 1.0}, [50, 50, 50])
    _study("four to a card", trials, quarter, [50, 50, 50])
    _study("four to a card, 0.4 GiB each, which is too little", 4, {**quarter, "gpu_memory": 0.4}, [6000, 6000])


def _study(title: str, trials: int, resources: Mapping[str, float], widths: list[int]) -> None:
    study = studies_small.study(
        methods=[{"name": "random", "per": "global"}],
        seeds=1,
        training={"solver": "sgd", "steps": STEPS if widths[0] < 1000 else FEW, "batch_size": 50},
        problem={"data": "digits", "split": {"train": 300, "validation": 600}, "model": {"mlp": widths}},
        budget={"trainings": trials},
        execution="processes",
        resources=resources,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(f"sqlite:///{folder}/hpo.db") as ledger,
        preparation.prepared(study, None) as ready,
    ):
        begun = time.monotonic()
        loop.run(ready, ledger, Quiet(), {})
        took = (time.monotonic() - begun) / trials
        [arm] = study.arms()
        states = Counter(trial.state for trial in ledger.trials(study.name, arm.label))
        broken = _exhausted(f"{folder}/hpo.db")
    print(f"| {title} | {trials} | {took:.2f} | {dict(states)} | {broken} |", flush=True)


def _exhausted(path: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT count(*) FROM hpo_event WHERE kind = 'exhausted'").fetchone()[0]
