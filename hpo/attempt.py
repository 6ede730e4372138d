"""A trial in the hands of this run: what is evaluated, under which claim, and how often it may break off."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from hpo.arm import ArmRun
from hpo.storage.claims import Claim
from hpo.task import Task

TRIES = {"crashed": 1, "exhausted": 1, "lost": 5}
"""How often a trial is tried again without having got on: after its worker process died, after a card had no room for
it (alone there), after its whole run died."""

REASONS = {
    "crashed": "the worker process died {} times on this trial (out of memory, or killed)",
    "exhausted": "a card had no memory for this trial {} times",
    "lost": "its run was lost {} times on this trial (killed, or out of memory)",
}


class Attempt(NamedTuple):
    """A task for a worker, how long its proposal took, since when it runs, and which attempt of this run it is."""

    arm: ArmRun
    task: Task
    claim: Claim
    ask_seconds: float
    since: float
    number: int = 1

    def by_itself(self) -> Attempt:
        """The same, with nothing else on its cards."""
        return self._replace(task=replace(self.task, alone=True))

    def again(self) -> Attempt:
        """The next one, from where this one was saved, if it was: whoever takes it looks."""
        return self._replace(claim=self.claim._replace(saved=True), number=self.number + 1)
