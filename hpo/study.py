"""The loop: ask, claim, place, close, tell.

    every proposal is claimed in the ledger, evaluated, closed and told to its strategy exactly once, failures included

Any number of runs may work on a study at once, here or on other machines: before it decides, a run learns from the
ledger what the others did, and what it decided counts only if nobody was faster. A trial whose run died is taken up by
another, from its last checkpoint.

Arms are independent. While there are as many arms as slots in all runs, an arm has one trial under way at a time (where
trainings are stacked, as many as its strategy asks for): it is one sequence, and its trials do not depend on the number
of workers or runs. A free slot goes to the arm that has spent least, seed by seed, so that all end at about the same
time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Protocol

from hpo import interruption
from hpo.arm import ArmRun, strategy_for
from hpo.attempt import REASONS, TRIES, Attempt
from hpo.execution import worker
from hpo.execution.place import Place
from hpo.failures import StudyFailed
from hpo.preparation import Ready, store
from hpo.spec import Study
from hpo.storage.claims import Claim, Terms
from hpo.storage.desk import Desk, TakenOver
from hpo.storage.leases import Lease, LeaseLost
from hpo.storage.ledger import Ledger
from hpo.storage.tables import Broken
from hpo.task import OutOfMemory, Task
from hpo.trial import Cost, Outcome, Proposal, Trial

LOOK = 1.0
"""Seconds after which a run looks again whether others have died, and what waits for it."""


class Watcher(Protocol):
    """Told what happens, for progress bars and logs. A class of one's own derives from it and says what it wants to.

    `begun`: the arms as this run found them; `opened`, `placed`: a trial of this run; `closed`: a trial is stored, this
    run's or, as it is learnt, another's; `stop`: the run is over, however it ended.
    """

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None: ...
    def opened(self, arm: ArmRun, proposal: Proposal) -> None: ...
    def placed(self, arm: ArmRun, number: int, place: Place) -> None: ...
    def closed(self, arm: ArmRun, trial: Trial) -> None: ...
    def ended(self, arm: ArmRun) -> None: ...
    def stop(self) -> None: ...


def run(
    ready: Ready, ledger: Ledger, watcher: Watcher, versions: Mapping[str, str], worker_name: str | None = None
) -> None:
    """Run a study, or what is left of it, until every arm has spent its budget; other runs may share the work.

    Raises BadInput before anything is written when the ledger holds another study of that name; StudyFailed at the end
    when an arm has no usable trial. An exception, KeyboardInterrupt among them, saves the running trials and sets them
    free; all finished ones are kept.
    """
    study = ready.study
    store(ready, ledger, versions)
    first = True
    while True:
        with ledger.attend(study.name, ready.executor.slots, worker_name) as lease:
            loop = _Loop(ready, ledger, lease, watcher)
            try:
                loop.run(first)
                break
            except LeaseLost:
                first = False
                loop.drop()  # its trials are others' now; this run goes on with a new lease
            except BaseException:
                ready.executor.close(wait=False)  # while the lease stands: they save what they have
                loop.keep()
                raise
    barren = [a.label for a in loop.arms if not a.usable]
    if barren:
        raise StudyFailed(
            f"no trial of {', '.join(barren)} ended with a finite validation loss: "
            f"hpo show {study.name} lists the reasons"
        )


class _Loop:
    """One run of a study under one lease."""

    def __init__(self, ready: Ready, ledger: Ledger, lease: Lease, watcher: Watcher) -> None:
        self.study, self.executor, self.data_dir = ready.study, ready.executor, ready.data_dir
        self.ledger, self.lease, self.watcher = ledger, lease, watcher
        place = self.study.seeds.index
        self.futures: dict[Future[Outcome], Attempt] = {}
        self.again: list[Attempt] = []
        self.arms = [
            ArmRun(
                arm, plan := ready.plans[arm.label], strategy_for(arm, plan), self.study.budget, place=place(arm.seed)
            )
            for arm in self.study.arms()
        ]
        self._looked, self._orphans = -LOOK, False

    def run(self, first: bool) -> None:
        """Until every arm is over. `first`: the watcher has not been told of the arms."""
        self._learn(news=False)
        if first:
            self.watcher.begun(self.study, self.arms)
        ended: set[str] = set()
        while True:
            self._look()
            self._try_again()
            while self._room and (self._take_up() or self._propose()):
                pass
            for arm in self.arms:
                if arm.over and arm.label not in ended:
                    ended.add(arm.label)
                    self.ledger.finish(self.study.name, arm.label, "complete" if arm.usable else "failed")
                    self.watcher.ended(arm)
            if len(ended) == len(self.arms):
                return
            for future in self.executor.start():
                self._placed(future)
            self._wait()
            self._learn()

    def drop(self) -> None:
        """Wait for the workers; what they bring is refused."""
        self.executor.forget()
        wait([future for future in self.futures if not future.cancelled()])

    def keep(self) -> None:
        """Close what ended before its worker was interrupted."""
        with interruption.deferred():
            for future, work in self.futures.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._close(work, future.result())

    @property
    def _room(self) -> bool:
        """Whether one more call may be submitted."""
        return len(self.futures) < self.executor.slots * self.executor.width and self.executor.free > 0

    def _learn(self, news: bool = True) -> None:
        """What other runs, or runs before this one, did to the arms."""
        standing = self.ledger.standing(self.study.name)
        for arm in self.arms:
            there = standing[arm.label]
            if not arm.agrees(there):
                among = sorted(arm.elsewhere)
                for trial in self.ledger.trials(self.study.name, arm.label, since=arm.known, among=among):
                    arm.learn(trial)
                    if news and trial.outcome is not None:
                        self.watcher.closed(arm, trial)
            arm.cost = there.cost

    def _look(self) -> None:
        """Every so often: which runs are alive, and so how many slots there are for an arm."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        slots = self.ledger.slots(self.lease)
        for arm in self.arms:
            arm.slots = -(-slots // len(self.arms))
            arm.places = self.executor.slots * self.executor.width
        self._orphans = any(arm.elsewhere for arm in self.arms)

    def _take_up(self) -> bool:
        """Go on with a trial whose run died, if there is one."""
        if not self._orphans:
            return False
        hand = [work.claim.trial_id for work in (*self.futures.values(), *self.again)]
        found = self.ledger.take_up(self.lease, [arm.label for arm in self.arms], hand)
        if found is None:
            self._orphans = False
            return False
        arm = next(a for a in self.arms if a.label == found.claim.arm)
        arm.begun(found.proposal)
        self.watcher.opened(arm, found.proposal)
        work = self._under_way(arm, found.claim, found.proposal, found.ask_seconds)
        for cause, times in found.causes.items():
            if times > TRIES[cause]:
                self._give_up(work, REASONS[cause].format(times))
                return True
        if "exhausted" in found.causes:
            self.again.append(work.by_itself())
            self._try_again()
        else:
            self._submit(work)
        return True

    def _try_again(self) -> None:
        """Start what is to be tried again and may start now."""
        for work in list(self.again):
            if work.task.alone:
                future = self.executor.alone(worker.evaluate, work.task, self._desk(work))
                if future is None:
                    continue
                self._started(future, work)
            elif self._room:
                self._submit(work)
            else:
                continue
            self.again.remove(work)

    def _propose(self) -> bool:
        """Start the next trial of the arm whose turn it is; False if none may start now."""
        for arm in sorted(self.arms, key=lambda a: (a.running, a.place, a.spent)):
            if not arm.room:
                continue
            started = time.perf_counter()
            proposal = arm.strategy.ask(arm.known)
            if proposal is None:
                continue
            terms = Terms(arm.budget.unit, arm.budget.amount, arm.charge, arm.width)
            seconds = time.perf_counter() - started
            claim = self.ledger.claim(self.lease, arm.label, proposal, seconds, terms)
            if claim is None:
                self._learn()  # another run was faster
                return True
            arm.begun(proposal)
            self.watcher.opened(arm, proposal)
            self._submit(self._under_way(arm, claim, proposal, seconds))
            return True
        return False

    def _under_way(self, arm: ArmRun, claim: Claim, proposal: Proposal, ask_seconds: float) -> Attempt:
        task = Task(self.study, arm.arm, arm.plan, proposal, self.data_dir, arm.best, dict(arm.rivals))
        return Attempt(arm, task, claim, ask_seconds, time.perf_counter())

    def _submit(self, work: Attempt) -> None:
        self._started(self.executor.submit(worker.evaluate, work.task, self._desk(work)), work)

    def _desk(self, work: Attempt) -> Desk:
        return Desk(self.ledger.url, work.claim)

    def _started(self, future: Future[Outcome], work: Attempt) -> None:
        self.futures[future] = work
        self._placed(future)

    def _placed(self, future: Future[Outcome]) -> None:
        place, work = self.executor.place(future), self.futures[future]
        if place is not None:  # it does not wait for company
            self.watcher.placed(work.arm, work.task.proposal.number, place)

    def _wait(self) -> None:
        """For one of the workers, or a moment, if others have work that may become this run's."""
        others = any(arm.elsewhere for arm in self.arms)
        if not self.futures and not others:
            stuck = ", ".join(a.label for a in self.arms if not a.over)
            raise RuntimeError(f"nothing runs, and {stuck} propose nothing: a strategy does not keep its contract")
        if not self.futures:
            time.sleep(LOOK / 4)
        ended = wait(self.futures, LOOK if others and self._room else None, FIRST_COMPLETED).done
        for future in sorted(ended, key=lambda f: isinstance(f.exception(), KeyboardInterrupt)):
            self._end(future, self.futures.pop(future))

    def _end(self, future: Future[Outcome], work: Attempt) -> None:
        error = future.exception()
        if isinstance(error, KeyboardInterrupt) and interruption.asked():
            raise error  # this run was interrupted, not a worker of its
        if isinstance(error, TakenOver):
            self._lose(work)
        elif isinstance(error, BrokenExecutor | KeyboardInterrupt):
            self._break(work, "crashed")
        elif isinstance(error, OutOfMemory):
            self._break(work, "exhausted", f"out of memory, alone on its card too: {error}")
        else:
            self._close(work, future.result())

    def _break(self, work: Attempt, cause: Broken, at_last: str | None = None) -> None:
        """A worker broke off: once more, or no more. `at_last`: the reason if it was alone."""
        times = self.ledger.broken(work.claim, work.number, cause)
        if times is None:
            self._lose(work)
        elif at_last and work.task.alone:
            self._give_up(work, at_last)
        elif times > TRIES[cause]:
            self._give_up(work, REASONS[cause].format(times))
        else:
            self.again.append(work.again().by_itself() if cause == "exhausted" else work.again())

    def _give_up(self, work: Attempt, reason: str) -> None:
        """A failed outcome, charged in full."""
        nan, cost = float("nan"), Cost(1, work.task.plan.evaluations, time.perf_counter() - work.since)
        self._close(work, Outcome("failed", nan, nan, cost=cost, failure=reason))

    def _close(self, work: Attempt, outcome: Outcome) -> None:
        trial = Trial(work.task.proposal, outcome)
        if self.ledger.close_trial(work.claim, outcome):
            work.arm.take(trial, work.ask_seconds)
            self.watcher.closed(work.arm, trial)
        else:
            self._lose(work)

    def _lose(self, work: Attempt) -> None:
        """Another run has the trial: what it makes of it is learnt from the ledger."""
        work.arm.mine.discard(work.task.proposal.number)
        work.arm.elsewhere.add(work.task.proposal.number)
