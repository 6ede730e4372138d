"""Several trials evaluated at once: their trainings stacked where they have one shape, alone where not.

Every trial has the outcome it would have alone, to the rounding of stacked kernels; one that diverged, was pruned or is
another run's is settled there and then, and the others go on. A trial's seconds are its share of the stack's. What
fails as a stack is evaluated alone, so that a fault stays one trial's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch

from hpo import arithmetic, interruption
from hpo.evaluation import evaluate, save_interrupted, searched, stops
from hpo.failures import BadStorage
from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.kept import Kept, States
from hpo.hypergradients.training import Derivative, begun, onwards
from hpo.problems.imported import said
from hpo.recipe import recipe
from hpo.saving import OFTEN, Saving, bytes_of
from hpo.scoring import Point, Trained, losses, outcome, point, points, pruned
from hpo.stack import Replica, kind, stacked
from hpo.storage.desk import Desk, TakenOver
from hpo.task import OutOfMemory, Task
from hpo.trial import Outcome
from solvers.solver import State
from solvers.stacked import replica

log = logging.getLogger(__name__)

Verdict = Outcome | BaseException
"""What became of a trial, or what `evaluate` raises: KeyboardInterrupt, TakenOver, OutOfMemory, BadStorage."""

_failed: set[Hashable] = set()
"""Kinds that could not be trained as a stack: they are not tried again in this process."""

ROOM = 2**30
"""Bytes that the states kept for the hypergradients of a stack may take."""


def evaluate_together(tasks: Sequence[Task], desks: Sequence[Desk | None]) -> list[Verdict]:
    """The verdict on each task; after an interruption that is KeyboardInterrupt for all that had not ended."""
    verdicts: dict[int, Verdict] = {}
    try:
        for kinship, members in _parted(tasks, desks):
            if not _interrupted(verdicts):
                verdicts |= _stacked(kinship, members)
        for i, (task, desk) in enumerate(zip(tasks, desks, strict=True)):
            if i not in verdicts and not _interrupted(verdicts):
                verdicts[i] = _alone(task, desk)
    except KeyboardInterrupt:
        log.debug("interrupted between two trainings")
    return [verdicts.get(i, KeyboardInterrupt()) for i in range(len(tasks))]


def _interrupted(verdicts: dict[int, Verdict]) -> bool:
    return interruption.asked() or any(isinstance(verdict, KeyboardInterrupt) for verdict in verdicts.values())


def _alone(task: Task, desk: Desk | None) -> Verdict:
    try:
        return evaluate(task, desk)
    except (TakenOver, BadStorage, OutOfMemory, KeyboardInterrupt) as error:
        return error


@dataclass
class _Member:
    """A trial of a stack: its place among the tasks, what it trains, and how far it came."""

    place: int
    task: Task
    replica: Replica
    saving: Saving
    curve: list[Point] = field(default_factory=list)
    trained: Trained | None = None
    lost: TakenOver | None = None

    @property
    def growing(self) -> bool:
        """Whether its training is still worth going on with."""
        return self.trained is None and self.lost is None


def _parted(tasks: Sequence[Task], desks: Sequence[Desk | None]) -> list[tuple[Hashable, list[_Member]]]:
    """What can be stacked, by kind, two at least and no more than there is room for."""
    parts: dict[Hashable, list[_Member]] = {}
    full: list[tuple[Hashable, list[_Member]]] = []
    for i, task in sorted(enumerate(tasks), key=lambda pair: pair[1].arm.seed):  # a seed's data are loaded once
        desk = desks[i]
        if desk is not None and desk.claim.saved:
            continue  # it goes on from its checkpoint, which stands at a step of its own
        try:
            made = recipe(task.study, task.arm, task.data_dir)
            one = Replica(made, searched(made, task.plan.space, task.proposal.values)[1])
        except Exception:  # whatever the user's code raises: alone it fails again, and that is its outcome
            continue
        derivative = (task.proposal.derivative, repr(made.derivative and sorted(made.settings.items())))
        if derivative[0] and not isinstance(made.derivative, Afterwards):
            continue
        kinship = (kind(task.study, task.arm, one), derivative)
        if kinship in _failed:
            continue
        most = max(1, ROOM // max(1, task.plan.memory))
        part = parts.setdefault(kinship, [])
        if len(part) == most:
            full.append((kinship, part))
            part = parts[kinship] = []
        part.append(_Member(i, task, one, Saving(desk, task.study.resources.checkpoint, replica=len(part))))
    return [(kinship, members) for kinship, members in [*full, *parts.items()] if len(members) > 1]


def _stacked(kinship: Hashable, members: list[_Member]) -> dict[int, Outcome | BaseException]:
    """The verdicts on a stack; none if it cannot be trained as one."""
    try:
        return _Stacking(kinship, members).run()
    except Exception as error:
        reason = said(error)
        if not isinstance(error, torch.OutOfMemoryError):
            _failed.add(kinship)
    except KeyboardInterrupt:
        reason = None
    if reason is not None and not interruption.asked():
        log.warning("%s is not trained in stacks: %s", members[0].task.arm.title, reason)
        arithmetic.release()  # not before: the error held all that its frames had on the card
        return {}
    for member in members:
        save_interrupted(member.saving)
    return {member.place: KeyboardInterrupt() for member in members}


class _Stacking:
    """A stack under way."""

    def __init__(self, kinship: Hashable, members: list[_Member]) -> None:
        self.started, self.members = time.perf_counter(), members
        made, wanted = members[0].replica.made, members[0].task.proposal.derivative
        self.derivative = made.derivative if wanted and isinstance(made.derivative, Afterwards) else None
        together = self.derivative is not None and self.derivative.stacks
        self.stack = stacked(kinship, [m.replica for m in members], derived=together)
        for member in members:
            member.saving.beside = len(members)
        self.kept: Kept = {}
        self._due = time.monotonic() + OFTEN

    def run(self) -> dict[int, Outcome | BaseException]:
        """Train all, and take their derivatives."""
        states = self._trained()
        for i, member in enumerate(self.members):
            member.saving.trained()
            if member.growing:
                member.trained = Trained(replica(states[states.last], i), member.curve, states.last)
        found = self._found_together(states)
        share = (time.perf_counter() - self.started) / len(self.members)
        return {m.place: m.lost or self._outcome(i, m, states, found, share) for i, m in enumerate(self.members)}

    def _trained(self) -> States:
        """The states of the training, run to its end or until none is worth going on with."""
        training, weights, hyper = self.stack
        alone, stays, due = self.members[0].replica, set[int](), points(training.steps)
        if self.derivative is not None:
            stays = set(self.derivative.stays(alone.made.training, alone.made.problem.weights, alone.hyper))
        states = begun(training, weights, hyper, self.kept)
        for step, state in onwards(training, hyper, states, stops(training.steps), stays):
            if step in due:
                self._look(step, state)
                if not any(member.growing for member in self.members):
                    break
            self._note()
        return states

    def _look(self, step: int, state: State) -> None:
        """A point for every learning curve that grows; whoever has diverged, or is pruned, is trained."""
        fine = torch.stack([torch.isfinite(w).reshape(len(w), -1).all(dim=1) for w in state.weights.values()]).all(
            dim=0
        )
        growing = [(i, member) for i, member in enumerate(self.members) if member.growing]
        for i, member in growing:
            read = member.replica.made.training.solver.readout(replica(state, i).weights)
            member.curve.append(point(step, member.replica.made.problem, read))
        for i, member in growing:
            here = Trained(replica(state, i), member.curve, step)
            if not bool(fine[i]):
                member.trained = here
            elif pruned(member.task, member.replica.made, member.curve, self._rivals(member)):
                member.trained = here._replace(pruned=True)

    def _rivals(self, member: _Member) -> dict[int, tuple[float, ...]]:
        """The curves of its arm: those that had ended before, and those that grow beside it."""
        beside = {m.task.proposal.number: losses(m.curve) for m in self.members if m.task.arm == member.task.arm}
        del beside[member.task.proposal.number]
        return {**member.task.rivals, **beside}

    def _note(self) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + OFTEN
        kept, share = dict(self.kept), (time.perf_counter() - self.started) / len(self.members)
        size = bytes_of(kept) // len(self.members)
        for member in self.members:
            if member.growing:
                try:
                    member.saving.note(kept, member.curve, share, size)
                except TakenOver as error:
                    member.lost = error

    def _found_together(self, states: States) -> Derivative | None:
        """The derivatives of all at once, where the method can and one of the trainings has come to its end."""
        whole = any(m.trained is not None and self._ended(m.trained) for m in self.members)
        if self.derivative is None or not self.derivative.stacks or not whole:
            return None
        return self.derivative.derivative(*self.stack, states)

    def _ended(self, trained: Trained) -> bool:
        return trained.steps == self.stack.training.steps

    def _outcome(self, i: int, member: _Member, states: States, found: Derivative | None, share: float) -> Outcome:
        began, made, hyper = time.perf_counter(), member.replica.made, member.replica.hyper

        def derive() -> Derivative:
            if found is not None:
                return _part(found, i)
            assert self.derivative is not None
            own = States(replica(states.start, i), made.training.steps, None)
            own.update({step: replica(state, i) for step, state in states.items() if step})
            return self.derivative.derivative(made.training, made.problem.weights, hyper, own)

        def clock() -> float:
            return share + time.perf_counter() - began

        assert member.trained is not None
        wanted = None if self.derivative is None else derive
        return outcome(member.task, made, made.training, hyper, member.trained, wanted, clock)


def _part(found: Derivative, i: int) -> Derivative:
    """That of one replica; that another one's exploded is not its affair."""
    gradient = {name: x[i] for name, x in found.gradient.items()}
    fine = all(bool(torch.isfinite(x).all()) for x in gradient.values())
    return Derivative(gradient, {name: x for name, x in found.report.items() if name != "exploded" or not fine})
