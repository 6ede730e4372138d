"""Whether the trainings of a study are stacked, and how many in a stack: decided by what their steps take here.

`execution: batched` always does, and `auto` with `resources: {replicas: …}`; `auto` alone where a study is long, has
enough trials that may be under way at once, and a step of a stacked training was measured to be a good deal faster than
one alone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from hpo.arm import strategy_for
from hpo.execution import worker
from hpo.execution.batched import Batched
from hpo.execution.executor import Executor
from hpo.registry import DECIDERS
from hpo.spec import Arm, Study
from hpo.task import Plan

log = logging.getLogger(__name__)

LONG = 100_000
"""Gradient evaluations of a study from which on measuring, about a second, is worth it; or as many trials' worth."""

FASTER = 1.2
"""How much faster a stacked step must be."""

UNKNOWN = 64
"""How many trials an arm is taken to have whose budget is in seconds."""


def fitting(study: Study, plans: Mapping[str, Plan], executor: Executor, data_dir: Path | None) -> Executor:
    """The executor given, or one that stacks over it."""
    if study.execution not in ("auto", "batched"):
        return executor
    if study.resources.replicas is not None:
        return Batched(study.resources, executor, study.resources.replicas)
    arm, at_once = _widest(study, plans)
    most = -(-at_once // executor.slots)
    if most < 2 or (study.execution == "auto" and _evaluations(study, plans) < LONG):
        return executor
    try:
        seconds = executor.submit(worker.widths, study, arm, plans[arm.label], data_dir, most).result()
    except (Exception, SystemExit) as error:  # whatever a user's module does: its trials will say so
        log.warning("%s: a step could not be timed, so trainings are not stacked: %s", arm.title, error)
        return executor
    width = min(seconds, key=seconds.__getitem__)
    if width == 1 or (study.execution == "auto" and seconds[1] < FASTER * seconds[width]):
        return executor
    return Batched(study.resources, executor, width)


def _widest(study: Study, plans: Mapping[str, Plan]) -> tuple[Arm, int]:
    """The first of the arms that may be stacked with one another and have most trials under way, and how many."""
    kin: defaultdict[tuple[object, ...], list[Arm]] = defaultdict(list)
    for arm in study.arms():
        decided = arm.method.name if arm.method.name in DECIDERS else ""
        kin[arm.solver.title, arm.method.per, decided].append(arm)
    counts = [(arms[0], sum(_at_once(study, arm, plans[arm.label]) for arm in arms)) for arms in kin.values()]
    return max(counts, key=lambda found: found[1])


def _at_once(study: Study, arm: Arm, plan: Plan) -> int:
    trials, batch = _trials(study, plan), strategy_for(arm, plan).batch
    wanted = int(arm.method.options.get("batch", 1))  # CMA-ES likes one until it knows a loss
    return trials if batch is None else min(max(batch, wanted), trials)


def _trials(study: Study, plan: Plan) -> int:
    """How many an arm may have."""
    each = {"trainings": 1.0, "gradient_evaluations": plan.evaluations}.get(study.budget.unit)
    return UNKNOWN if each is None else max(1, int(study.budget.amount / each))


def _evaluations(study: Study, plans: Mapping[str, Plan]) -> float:
    return sum(_trials(study, plans[arm.label]) * plans[arm.label].evaluations for arm in study.arms())
