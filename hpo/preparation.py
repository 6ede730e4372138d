"""What is known of a study before it runs: every arm's plan and probe, its diagnosis, and its workers, started."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo import stacking
from hpo.arm import strategy_for
from hpo.diagnostics.findings import Diagnosis
from hpo.execution import worker
from hpo.execution.executor import Executor, choose
from hpo.failures import BadStorage, BadStudy
from hpo.hypergradients import HYPERGRADIENTS
from hpo.registry import EXECUTORS, resolve
from hpo.spec import Arm, Study
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord
from hpo.task import Plan, Probe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ready:
    """A study that can be run: its workers, and the plan of every arm by label."""

    study: Study
    data_dir: Path | None
    executor: Executor
    plans: Mapping[str, Plan]


def plans(study: Study, executor: Executor, data_dir: Path | None) -> dict[str, Plan]:
    """Every arm's plan, by label; every worker makes one, so that none has data to load when the trials begin.

    Raises BadStudy or BadData for what does not fit.
    """
    arms, slots = study.arms(), executor.slots
    asked = [*arms, *(arms[0] for _ in range(len(arms), slots))]
    found: dict[str, Plan] = {}
    for some in (asked[i : i + slots] for i in range(0, len(asked), slots)):
        futures = [executor.submit(worker.plan, study, arm, data_dir) for arm in some]
        for arm, future in zip(some, futures, strict=True):
            found[arm.label] = _planned(study, arm, future)
    return found


def _planned(study: Study, arm: Arm, future: Future[Plan]) -> Plan:
    try:
        plan = future.result()
    except BrokenExecutor as error:
        raise BadStudy("problem: the worker process died while it was built (out of memory, or killed)") from error
    if study.budget.unit == "gradient_evaluations" and study.budget.amount < plan.evaluations:
        raise BadStudy(
            f"budget.gradient_evaluations {study.budget.amount:g} is less than one trial of {arm.title} costs "
            f"({plan.evaluations:g}): give at least that"
        )
    strategy_for(arm, plan)
    return plan


def probes(study: Study, plans: Mapping[str, Plan], executor: Executor, data_dir: Path | None) -> dict[str, Probe]:
    """What a gradient evaluation takes here, by arm label: measured once a solver, on its first arm.

    For whoever wants to know before running; nothing that runs asks for it. Raises BadStudy where a step fails.
    """
    found: dict[str, Probe] = {}
    for arm in study.arms():
        if arm.solver.title not in found:
            plan = plans[arm.label]
            found[arm.solver.title] = executor.submit(worker.probe, study, arm, plan, data_dir).result()
    return {arm.label: found[arm.solver.title] for arm in study.arms()}


def diagnosis(study: Study, executor: Executor, data_dir: Path | None, widths: Sequence[int]) -> Diagnosis:
    """What `hpo.diagnostics` says about the first seed: its rows and initial network, and the training of each solver.

    Cost: one training a solver and the looks at it, and one for each of `widths` until one fits the training rows.
    """
    firsts: dict[str, Arm] = {}
    for arm in study.arms():
        firsts.setdefault(arm.solver.title, arm)
    first = study.arms()[0]
    before = executor.submit(worker.before_training, study, first, data_dir).result()
    along = {
        name: executor.submit(worker.along_training, study, arm, data_dir, widths).result()
        for name, arm in firsts.items()
    }
    return Diagnosis(first.seed, before, along)


@contextmanager
def prepared(study: Study, data_dir: Path | None, ray: str | None = None) -> Iterator[Ready]:
    """The study checked and its workers started, before any database is touched. Raises as `plans`.

    `ray`: the address of a Ray cluster that takes the place of the study's own execution.
    The workers end with the block: after their work, or at once when it is left by an exception.
    """
    executor: Executor
    if ray is None:
        executor = resolve(EXECUTORS[choose(study.execution, study.resources)])(study.resources)
    else:
        executor = resolve(EXECUTORS["ray"])(study.resources, ray)
    finished = False
    try:
        found = plans(study, executor, data_dir)
        if ray is None:
            executor = stacking.fitting(study, found, executor, data_dir)
        yield Ready(study, data_dir, executor, found)
        finished = True
    finally:
        executor.close(wait=finished)


def store(ready: Ready, ledger: Ledger, versions: Mapping[str, str]) -> None:
    """Put a study in the ledger, its arms described, without running it.

    Raises as `Ledger.begin`, and BadStorage for a file that workers on other machines could not reach.
    """
    if ready.executor.machines > 1 and ledger.url.startswith("sqlite"):
        raise BadStorage(
            f"{ledger.url} is a file, and trainings go to {ready.executor.machines} machines, which must reach the "
            "database: give --storage postgresql://USER@HOST/NAME"
        )
    ledger.begin(ready.study, versions, ready.data_dir)
    settings = {a.label: {**strategy_for(a, p).settings, **p.derivative} for a, p in _planned_arms(ready)}
    for arm in ledger.arms(ready.study.name):
        if arm.method in HYPERGRADIENTS:
            _say_what_changed(arm, settings[arm.label])
    for arm, plan in _planned_arms(ready):
        ledger.describe(ready.study.name, arm.label, plan.space, settings[arm.label], plan.inputs)


def _planned_arms(ready: Ready) -> list[tuple[Arm, Plan]]:
    return [(arm, ready.plans[arm.label]) for arm in ready.study.arms()]


def _say_what_changed(arm: ArmRecord, now: Mapping[str, Any]) -> None:
    """A descent is told its trials again: under other settings it does not stand where it stood."""
    for key, value in arm.settings.items():
        if key in now and now[key] != value:
            log.warning(
                "%s goes on with %s %r, as this hpo has it; its trials so far were made with %r",
                arm.label, key, now[key], value,
            )  # fmt: skip
