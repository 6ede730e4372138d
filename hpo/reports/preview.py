"""What `hpo check` answers, as plain JSON values: what a study would run, and what that is expected to take here.

    seconds_per_trial = gradient_evaluations_per_trial × seconds_per_gradient_evaluation + seconds_measuring
    seconds           = trials × seconds_per_trial                                          (of an arm)
    memory_bytes      = data + weights + the solver's state + what the hypergradient holds  (of a training)

The seconds of a gradient evaluation come from a probe; the time a method takes to propose is not foretold, nor which
trainings a pruner stops: all trials are counted as whole ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from hpo.spec import Arm, Budget, Study
from hpo.storage.records import described

if TYPE_CHECKING:
    from hpo.task import Plan, Probe

Json = dict[str, Any]


def check(study: Study, plans: Mapping[str, Plan], probes: Mapping[str, Probe]) -> Json:
    """Every arm's rows, weights and values, and the charge, time and memory of one trial; plans and probes by label.

    The `seconds` beside the arms are their sum.
    """
    arms = [_arm(arm, plans[arm.label], probes[arm.label], study.budget) for arm in study.arms()]
    return {
        "study": study.name,
        "spec": study.canonical(),
        "seconds": sum(arm["seconds"] for arm in arms),
        "arms": arms,
    }


def _arm(arm: Arm, plan: Plan, probe: Probe, budget: Budget) -> Json:
    seconds = plan.evaluations * probe.seconds + probe.measuring
    count = trials(budget, plan.evaluations, seconds)
    return {
        "label": arm.label,
        "title": arm.title,
        "pruner": arm.method.pruner and arm.method.pruner.name,
        "rows": dict(zip(("train", "validation", "test"), plan.rows, strict=True)),
        "parameters": plan.parameters,
        "gradient_evaluations_per_trial": plan.evaluations,
        "seconds_per_gradient_evaluation": probe.seconds,
        "seconds_measuring": probe.measuring,
        "seconds_per_trial": seconds,
        "memory_bytes": probe.memory + plan.memory,
        "trials": count,
        "seconds": count * seconds,
        "space": described(plan.space),
    }


def trials(budget: Budget, evaluations: float, seconds: float) -> int:
    """How many trials of this charge and time an arm has room for; of seconds, it may spend more in its last one."""
    if budget.unit == "seconds":
        return ceil(budget.amount / seconds)
    charge = 1.0 if budget.unit == "trainings" else evaluations
    return int(budget.amount * (1 + 1e-12) / charge)
