"""The loop: ask, place, close, tell.

    every proposal is opened in the ledger, evaluated, closed and told to its strategy exactly once, failures included

Arms are independent. While there are as many arms as slots, an arm has one trial under way at a time: it is one
sequence, and its trials do not depend on the number of workers. A free slot goes to the arm that has spent least, seed
by seed, so that all end at about the same time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from hpo.arm import ArmRun, strategy_for
from hpo.diagnostics.findings import Diagnosis
from hpo.execution import worker
from hpo.execution.executor import Executor, choose
from hpo.failures import BadStudy, StudyFailed
from hpo.registry import EXECUTORS, resolve
from hpo.spec import Arm, Study
from hpo.storage.ledger import Ledger
from hpo.task import Plan, Probe, Task
from hpo.trial import Cost, Outcome, Proposal, Trial


class Watcher(Protocol):
    """Told what happens, for progress bars and logs."""

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None: ...
    def opened(self, arm: ArmRun, proposal: Proposal) -> None: ...
    def closed(self, arm: ArmRun, trial: Trial) -> None: ...
    def ended(self, arm: ArmRun) -> None: ...


@dataclass(frozen=True)
class Ready:
    """A study that can be run: its workers, and the plan of every arm by label."""

    study: Study
    data_dir: Path | None
    executor: Executor
    plans: Mapping[str, Plan]


def plans(study: Study, executor: Executor, data_dir: Path | None) -> dict[str, Plan]:
    """Every arm's plan, by label. Raises BadStudy or BadData for what does not fit."""
    found = {}
    for arm in study.arms():
        try:
            found[arm.label] = executor.submit(worker.plan, study, arm, data_dir).result()
        except BrokenExecutor as error:
            raise BadStudy("problem: the worker process died while it was built (out of memory, or killed)") from error
        charge = found[arm.label].evaluations
        if study.budget.unit == "gradient_evaluations" and study.budget.amount < charge:
            raise BadStudy(
                f"budget.gradient_evaluations {study.budget.amount:g} is less than one trial of {arm.title} costs "
                f"({charge:g}): give at least that"
            )
        strategy_for(arm, found[arm.label])
    return found


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
def prepared(study: Study, data_dir: Path | None) -> Iterator[Ready]:
    """The study checked and its workers started, before any database is touched. Raises as `plans`.

    The workers end with the block: after their work, or at once when it is left by an exception.
    """
    executor: Executor = resolve(EXECUTORS[choose(study.execution, study.resources)])(study.resources)
    finished = False
    try:
        yield Ready(study, data_dir, executor, plans(study, executor, data_dir))
        finished = True
    finally:
        executor.close(wait=finished)


def run(ready: Ready, ledger: Ledger, watcher: Watcher, versions: Mapping[str, str]) -> None:
    """Run a study, or what is left of it, until every arm has spent its budget.

    Raises BadInput before anything is written when the ledger holds another study of that name; StudyFailed at the end
    when an arm has no usable trial. An exception, KeyboardInterrupt among them, gives up the running trials; all
    finished ones are kept.
    """
    study, executor = ready.study, ready.executor
    ledger.begin(study, versions)
    ledger.hold(study.name)
    try:
        ledger.release(study.name)  # what a killed run left open is asked for again
        width = -(-executor.slots // len(study.arms()))
        arms = [_restored(study, arm, ready.plans[arm.label], width, ledger) for arm in study.arms()]
        watcher.begun(study, arms)
        _loop(study, arms, executor, ledger, ready.data_dir, watcher)
    finally:
        ledger.release(study.name)
        ledger.let_go(study.name)
    barren = [a.label for a in arms if not a.usable]
    if barren:
        raise StudyFailed(
            f"no trial of {', '.join(barren)} ended with a finite validation loss: "
            f"hpo show {study.name} lists the reasons"
        )


def _restored(study: Study, arm: Arm, plan: Plan, width: int, ledger: Ledger) -> ArmRun:
    """An arm as the ledger knows it: the strategy told every recorded trial, in order."""
    strategy = strategy_for(arm, plan)
    ledger.describe(study.name, arm.label, plan.space, {**strategy.settings, **plan.derivative})
    standing = ArmRun(arm, plan, strategy, study.budget, width, study.seeds.index(arm.seed))
    for trial in ledger.trials(study.name, arm.label):
        standing.take(trial)
    standing.cost = ledger.spent(study.name, arm.label)
    return standing


class _UnderWay(NamedTuple):
    """A task in a worker: since when, how long its proposal took, and whether a dead worker is given another try."""

    arm: ArmRun
    task: Task
    ask_seconds: float
    since: float
    again: bool = True


def _loop(
    study: Study, arms: list[ArmRun], executor: Executor, ledger: Ledger, data_dir: Path | None, watcher: Watcher
) -> None:
    futures: dict[Future[Outcome], _UnderWay] = {}
    open_arms = [a for a in arms if not a.over]
    for arm in arms:
        if arm.over:
            _end(study, arm, ledger, watcher)
    while open_arms:
        while len(futures) < executor.slots and (found := _propose(open_arms)):
            arm, proposal, ask_seconds = found
            arm.pending[proposal.number] = proposal
            ledger.open_trial(study.name, arm.label, proposal, ask_seconds)
            watcher.opened(arm, proposal)
            task = Task(study, arm.arm, arm.plan, proposal, data_dir, arm.best)
            started = time.perf_counter()
            futures[executor.submit(worker.evaluate, task)] = _UnderWay(arm, task, ask_seconds, started)
        if not futures:
            stuck = ", ".join(a.label for a in open_arms)
            raise RuntimeError(f"nothing runs, and {stuck} propose nothing: a strategy does not keep its contract")
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            work = futures.pop(future)
            if work.again and isinstance(future.exception(), BrokenExecutor):
                futures[executor.submit(worker.evaluate, work.task)] = work._replace(again=False)
                continue
            _close(study, work, _outcome(future, work), ledger, watcher)
            if work.arm.over:
                open_arms.remove(work.arm)
                _end(study, work.arm, ledger, watcher)


def _close(study: Study, work: _UnderWay, outcome: Outcome, ledger: Ledger, watcher: Watcher) -> None:
    trial = Trial(work.task.proposal, outcome)
    ledger.close_trial(study.name, work.arm.label, trial.number, outcome)
    work.arm.take(trial, work.ask_seconds)
    watcher.closed(work.arm, trial)


def _propose(arms: list[ArmRun]) -> tuple[ArmRun, Proposal, float] | None:
    """The next proposal of the arm whose turn it is, and how long it took to decide."""
    for arm in sorted(arms, key=lambda a: (len(a.pending), a.place, a.spent)):
        if not arm.room:
            continue
        started = time.perf_counter()
        proposal = arm.strategy.ask(arm.next_number())
        if proposal is not None:
            return arm, proposal, time.perf_counter() - started
    return None


def _outcome(future: Future[Outcome], work: _UnderWay) -> Outcome:
    """The result, or a failed outcome, charged in full, for a worker that died twice on the same trial."""
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, BrokenExecutor):
        raise error
    nan, reason = float("nan"), "the worker process died twice on this trial (out of memory, or killed)"
    cost = Cost(1, work.task.plan.evaluations, time.perf_counter() - work.since)
    return Outcome("failed", nan, nan, cost=cost, failure=reason)


def _end(study: Study, arm: ArmRun, ledger: Ledger, watcher: Watcher) -> None:
    ledger.finish(study.name, arm.label, "complete" if arm.usable else "failed")
    watcher.ended(arm)
