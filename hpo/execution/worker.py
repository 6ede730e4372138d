"""The functions that cross into a worker. They load torch there, when called, and not in the process that asks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

from hpo.diagnostics.findings import AlongTraining, BeforeTraining
from hpo.interruption import interruptible
from hpo.spec import Arm, Study
from hpo.storage.desk import Desk
from hpo.task import Plan, Probe, Task
from hpo.trial import Outcome


def plan(study: Study, arm: Arm, data_dir: Path | None) -> Plan:
    """`hpo.evaluation.plan`."""
    from hpo import evaluation

    return evaluation.plan(study, arm, data_dir)


def probe(study: Study, arm: Arm, plan: Plan, data_dir: Path | None) -> Probe:
    """`hpo.probe.probe`."""
    from hpo import probe

    return probe.probe(study, arm, plan, data_dir)


def evaluate(task: Task, desk: Desk | None = None) -> Outcome:
    """`hpo.evaluation.evaluate`; SIGTERM interrupts it as Ctrl-C would."""
    from hpo import evaluation

    with interruptible(), desk or nullcontext():
        return evaluation.evaluate(task, desk)


def evaluate_together(tasks: Sequence[Task], desks: Sequence[Desk | None]) -> list[Outcome | BaseException]:
    """`hpo.together.evaluate_together`, interrupted as `evaluate`."""
    from hpo import together

    with interruptible(), ExitStack() as open_desks:
        for desk in desks:
            if desk is not None:
                open_desks.enter_context(desk)
        return together.evaluate_together(tasks, desks)


def widths(study: Study, arm: Arm, plan: Plan, data_dir: Path | None, most: int) -> dict[int, float]:
    """`hpo.probe.widths`."""
    from hpo import probe

    return probe.widths(study, arm, plan, data_dir, most)


def before_training(study: Study, arm: Arm, data_dir: Path | None) -> BeforeTraining:
    """`hpo.diagnosis.before.before_training`."""
    from hpo.diagnosis import before

    return before.before_training(study, arm, data_dir)


def along_training(study: Study, arm: Arm, data_dir: Path | None, widths: Sequence[int]) -> AlongTraining:
    """`hpo.diagnosis.along.along_training`."""
    from hpo.diagnosis import along

    return along.along_training(study, arm, data_dir, widths)
