"""What a running study shows: a bar per arm and a line per slot in a terminal, plain lines elsewhere, nothing with
--quiet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hpo.execution.place import Place
from hpo.trial import Proposal, Trial
from hpo.under_way import UnderWay

if TYPE_CHECKING:
    from hpo.arm import ArmRun
    from hpo.spec import Study
    from hpo.study import Watcher


class Quiet:
    """Says nothing."""

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None: ...
    def opened(self, arm: ArmRun, proposal: Proposal) -> None: ...
    def placed(self, arm: ArmRun, number: int, place: Place) -> None: ...
    def closed(self, arm: ArmRun, trial: Trial) -> None: ...
    def ended(self, arm: ArmRun) -> None: ...
    def stop(self) -> None: ...


class Lines:
    """One line for each trial; for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started = time.monotonic()

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None:
        done = sum(a.closed for a in arms)
        word = f"continues after {done} trials" if done else "begins"
        self.console.print(f"study {study.name} {word}: {len(arms)} arms", highlight=False, markup=False)

    def opened(self, arm: ArmRun, proposal: Proposal) -> None: ...

    def placed(self, arm: ArmRun, number: int, place: Place) -> None: ...

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        outcome = trial.outcome
        assert outcome is not None
        why = outcome.failure if trial.state == "pruned" else f"failed: {outcome.failure}"
        value = f"validation {outcome.validation_loss:.4f}" if outcome.usable else why
        clock = time.monotonic() - self.started
        self.console.print(
            f"{clock:7.1f} s  {arm.label:<16} trial {trial.number:>3}  {value}  best {arm.best:.4f}  "
            f"cost {arm.cost.gradient_evaluations:,.0f}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip

    def ended(self, arm: ArmRun) -> None: ...

    def stop(self) -> None: ...


class Bars:
    """A live bar for each arm: trials or budget spent, best validation loss, cost, time left; a line for each slot."""

    def __init__(self, console: Console) -> None:
        self.bars = Progress(
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("trial {task.fields[trial]:>3}"),
            TextColumn("best {task.fields[best]}"),
            TextColumn("[dim]{task.fields[cost]} gradients"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.slots = UnderWay()
        self.live = Live(Group(self.bars, self.slots), console=console)

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None:
        self.bars.console.print(
            f"[bold]{study.name}[/]: {len(arms)} arms, {study.budget.amount:g} {study.budget.unit} each"
        )
        for arm in arms:
            self.tasks[arm.label] = self.bars.add_task(arm.label, total=arm.budget.amount, start=False, **_fields(arm))
            self.bars.update(self.tasks[arm.label], completed=arm.spent)
        self.live.start()

    def opened(self, arm: ArmRun, proposal: Proposal) -> None:
        self.bars.start_task(self.tasks[arm.label])
        self.slots.placed(arm, proposal.number, Place(0, os.getpid()))  # until it is known better

    def placed(self, arm: ArmRun, number: int, place: Place) -> None:
        self.slots.placed(arm, number, place)

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        self.bars.update(self.tasks[arm.label], completed=arm.spent, **_fields(arm))
        self.slots.closed(arm, trial.number)

    def ended(self, arm: ArmRun) -> None:
        self.bars.update(self.tasks[arm.label], completed=arm.budget.amount)

    def stop(self) -> None:
        self.live.stop()


def _fields(arm: ArmRun) -> dict[str, Any]:
    best = "  -   " if arm.best == float("inf") else f"{arm.best:.4f}"
    return {"trial": str(arm.closed), "best": best, "cost": f"{arm.cost.gradient_evaluations:,.0f}"}


def watcher(console: Console, quiet: bool) -> Quiet | Lines | Bars:
    """The watcher that fits where the output goes."""
    chosen = Quiet() if quiet else Bars(console) if console.is_terminal or console.is_jupyter else Lines(console)
    _: Watcher = chosen
    return chosen
