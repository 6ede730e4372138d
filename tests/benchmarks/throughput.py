"""Trainings per minute on two cores: hpo beside a plain loop, Optuna with two jobs, and Ray Tune.

    make bench        (or: python tests/benchmarks/throughput.py [digits mnist overhead scaling])

Everywhere the same training: random search for one L2 strength and one learning rate, SGD with minibatches, a learning
curve of ten points, validation and test loss at the end, one BLAS thread in each process. Theirs is written as their
users write it, with torch.optim.SGD and results in memory; ours keeps every trial in SQLite. hpo's seconds are those of
the trials, from the first proposal to the last result; Ray's start is left out, too. One run of each, ratios within it.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hpo import preparation, spec
from hpo import study as loop
from hpo.problems.problem import build
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger
from hpo.task import CURVE_POINTS, CURVE_ROWS

STEPS = 600
CASES = {
    "digits": {"data": "digits", "batch": 50, "split": {"train": 0.6, "validation": 0.2}},
    "mnist": {"data": "mnist", "batch": 100, "split": {"train": 5000, "validation": 2000}},
}
COUNTS = {"digits": (30, 30, 24, 384), "mnist": (16, 16, 16, 128)}
"""Trainings of the plain loop, of Optuna, of Ray Tune, and of hpo in stacks (a quarter of them without)."""


def study(case: str, trainings: int, steps: int = STEPS, **resources: object) -> spec.Study:
    execution = resources.pop("execution", "auto")
    return spec.Study.model_validate(
        {
            "name": "bench",
            "problem": {"data": CASES[case]["data"], "split": CASES[case]["split"]},
            "training": {
                "solver": {"name": "sgd", "momentum": 0.9},
                "steps": steps,
                "batch_size": CASES[case]["batch"],
            },
            "space": {"l2": {"per": "global"}, "learning_rate": {"per": "global", "low": 1e-3, "high": 0.1}},
            "methods": ["random"],
            "budget": {"trainings": trainings},
            "resources": resources,
            "execution": execution,
        }
    )


def data_dir() -> Path | None:
    return Path(os.environ["HPO_DATA"]) if "HPO_DATA" in os.environ else None


class Objective:
    """A training as one writes it with torch.optim; made once in a process."""

    def __init__(self, case: str, steps: int = STEPS) -> None:
        self.problem = build(study(case, 1).problem, CASES[case]["batch"], 0, data_dir())
        self.steps = steps

    def __call__(self, l2: float, rate: float, report=lambda step, loss: None) -> float:
        torch.set_num_threads(1)
        problem = self.problem
        layers, fan_in = [], problem.train.inputs[0].numel()
        for width in (50, 50, 50):
            layers += [torch.nn.Linear(fan_in, width), torch.nn.ReLU()]
            fan_in = width
        net = torch.nn.Sequential(torch.nn.Flatten(), *layers, torch.nn.Linear(fan_in, 10))
        optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=l2)
        looks = {round((i + 1) * self.steps / CURVE_POINTS) for i in range(CURVE_POINTS)}
        for step in range(self.steps):
            batch = problem.batches(step)
            optimizer.zero_grad()
            F.cross_entropy(net(batch.inputs), batch.targets).backward()
            optimizer.step()
            if step + 1 in looks:
                with torch.no_grad():
                    F.cross_entropy(net(problem.train.inputs[:CURVE_ROWS]), problem.train.targets[:CURVE_ROWS]).item()
                    few = problem.validation.inputs[:CURVE_ROWS], problem.validation.targets[:CURVE_ROWS]
                    report(step + 1, F.cross_entropy(net(few[0]), few[1]).item())
        with torch.no_grad():
            F.cross_entropy(net(problem.test.inputs), problem.test.targets).item()
            return F.cross_entropy(net(problem.validation.inputs), problem.validation.targets).item()


def drawn(count: int) -> list[tuple[float, float]]:
    generator = np.random.default_rng(0)
    return [(float(10 ** generator.uniform(-6, 0)), float(10 ** generator.uniform(-3, -1))) for _ in range(count)]


def plain(case: str, count: int, steps: int = STEPS) -> float:
    objective = Objective(case, steps)
    objective(*drawn(1)[0])
    began = time.perf_counter()
    for l2, rate in drawn(count):
        objective(l2, rate)
    return time.perf_counter() - began


def with_optuna(case: str, count: int, jobs: int = 2, steps: int = STEPS, storage: str | None = None) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objective = Objective(case, steps)
    objective(*drawn(1)[0])

    def one(trial: optuna.Trial) -> float:
        l2, rate = trial.suggest_float("l2", 1e-6, 1.0, log=True), trial.suggest_float("rate", 1e-3, 0.1, log=True)
        return objective(l2, rate, lambda step, loss: trial.report(loss, step))

    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), storage=storage)
    began = time.perf_counter()
    made.optimize(one, n_trials=count, n_jobs=jobs)
    return time.perf_counter() - began


def with_ray_tune(case: str, count: int, steps: int = STEPS) -> float:
    """Two trainings at a time; from the first trial's start, so that neither Ray's nor Tune's own start counts."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    import ray
    from ray import tune

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )

    def one(config: dict[str, float]) -> None:
        objective = Objective(case, steps)
        loss = objective(config["l2"], config["rate"], lambda step, loss: tune.report({"loss": loss}))
        tune.report({"loss": loss})

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(one, {"cpu": 1}),
            param_space={"l2": tune.loguniform(1e-6, 1.0), "rate": tune.loguniform(1e-3, 0.1)},
            tune_config=tune.TuneConfig(num_samples=count, max_concurrent_trials=2, metric="loss", mode="min"),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        began = time.perf_counter()
        found = tuner.fit()
        took = time.perf_counter() - began
        assert len(found) == count and not found.errors
    ray.shutdown()
    return took


def with_hpo(given: spec.Study) -> tuple[float, float]:
    """Seconds of all trials, workers started and the study prepared before; and the sum of the trials' own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        preparation.prepared(given, data_dir()) as ready,
        Ledger.open(f"sqlite:///{folder}/hpo.db") as ledger,
    ):
        began = time.perf_counter()
        loop.run(ready, ledger, Quiet(), {})
        took = time.perf_counter() - began
        trials = ledger.trials(given.name, "random/0")
        own = sum(t.outcome.cost.seconds for t in trials if t.outcome is not None)
        width = ready.executor.width
    print(f"    (stacks of {width})" if width > 1 else "", flush=True)
    return took, own


def throughput(case: str) -> None:
    plainly, optunas, rays, ours = COUNTS[case]
    per_minute: dict[str, float] = {}

    def noted(name: str, count: int, seconds: float) -> None:
        per_minute[name] = 60 * count / seconds
        print(f"  {name}: {count} trainings in {seconds:.1f} s", flush=True)

    noted("plain loop, one process", plainly, plain(case, plainly))
    noted("Optuna, n_jobs=2 (threads)", optunas, with_optuna(case, optunas))
    noted("Ray Tune, two at a time", rays, with_ray_tune(case, rays))
    noted("hpo, serial", ours // 8, with_hpo(study(case, ours // 8, execution="serial"))[0])
    noted("hpo, two processes", ours // 4, with_hpo(study(case, ours // 4, workers=2, execution="processes"))[0])
    noted("hpo, stacked, serial", ours // 2, with_hpo(study(case, ours // 2, execution="batched"))[0])
    noted("hpo, stacked, two processes", ours, with_hpo(study(case, ours, workers=2, execution="batched"))[0])
    noted("plain loop, again", plainly, plain(case, plainly))
    plain_rate = (per_minute["plain loop, one process"] + per_minute["plain loop, again"]) / 2
    print(f"\n| {case} | trainings a minute | against the plain loop | Optuna | Ray Tune |\n|---|---|---|---|---|")
    for name, found in per_minute.items():
        ratios = (
            found / plain_rate,
            found / per_minute["Optuna, n_jobs=2 (threads)"],
            found / per_minute["Ray Tune, two at a time"],
        )
        print(f"| {name} | {found:,.0f} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    print(flush=True)


def overhead() -> None:
    """Milliseconds that a trial of two steps takes beyond the training itself."""
    count, steps = 200, 2
    alone = plain("digits", count, steps) / count
    rows = [("plain loop", alone * 1e3, 0.0)]
    for name, given in (
        ("hpo, serial, SQLite", study("digits", count, steps, execution="serial")),
        ("hpo, two processes, SQLite", study("digits", count, steps, workers=2, execution="processes")),
    ):
        took, own = with_hpo(given)
        rows.append((name, 1e3 * took / count, 1e3 * (took - own / given.resources.workers) / count))
    memory = with_optuna("digits", count, 1, steps) / count
    rows.append(("Optuna, in memory", memory * 1e3, 1e3 * (memory - alone)))
    with tempfile.TemporaryDirectory() as folder:
        stored = with_optuna("digits", count, 1, steps, f"sqlite:///{folder}/optuna.db") / count
    rows.append(("Optuna, SQLite", stored * 1e3, 1e3 * (stored - alone)))
    tuned = with_ray_tune("digits", 12, steps) / 12
    rows.append(("Ray Tune, two at a time", tuned * 1e3, 1e3 * (tuned - alone / 2)))
    print("\n| a trial of two steps | ms a trial | of them not the training |\n|---|---|---|")
    for name, whole, extra in rows:
        print(f"| {name} | {whole:.1f} | {extra:.1f} |")
    print(flush=True)


def scaling() -> None:
    """One worker against two, trainings of a second and more, in turn."""
    rows = []
    for case, steps in (("digits", 6000), ("mnist", 3000)):
        ratios = []
        for _ in range(2):
            one = with_hpo(study(case, 8, steps, workers=1, execution="processes"))[0]
            two = with_hpo(study(case, 8, steps, workers=2, execution="processes"))[0]
            ratios.append(one / two)
        rows.append((case, one / 8, statistics.median(ratios)))
    print("\n| | seconds a training | two workers against one |\n|---|---|---|")
    for case, each, ratio in rows:
        print(f"| {case} | {each:.2f} | {ratio:.2f} |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["digits", "mnist", "overhead", "scaling"])
    parts = parser.parse_args().parts
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, torch {torch.__version__}", flush=True)
    for part in parts:
        {"overhead": overhead, "scaling": scaling}.get(part, lambda part=part: throughput(part))()
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
