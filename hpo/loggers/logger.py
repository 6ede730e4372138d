"""What a logger does, and how it is told."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hpo.failures import BadInput, unknown
from hpo.registry import LOGGERS, resolve
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord
from hpo.trial import Trial

if TYPE_CHECKING:
    from hpo.arm import ArmRun
    from hpo.execution.place import Place
    from hpo.spec import Study
    from hpo.trial import Proposal

Key = tuple[str, int]
"""An arm's label and a trial's number."""


class Logged(NamedTuple):
    """The study that is logged. `created` tells it from another one of its name."""

    name: str
    created: str
    arms: Sequence[ArmRecord]


class Logger(Protocol):
    """Keeps trials somewhere else; made with what stands behind the colon of its address."""

    def begin(self, study: Logged) -> Collection[Key]:
        """Open, or make, the place; returns the trials that are there already, whole, from whatever run.

        Raises BadInput if it cannot be written, or holds the trials of another study of that name.
        """
        ...

    def log(self, arm: ArmRecord, trial: Trial, closed: datetime) -> None:
        """Write a closed trial, whole or not at all. Raises whatever the place raises."""
        ...

    def end(self) -> None:
        """Give the place back."""
        ...


def masked(text: str) -> str:
    """Without the name and password of a URL in it."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def logger(address: str) -> Logger:
    """The logger at `KIND:WHERE`. Raises BadInput for an unknown kind, and where its package is not installed."""
    kind, colon, where = address.partition(":")
    if kind not in LOGGERS:
        raise BadInput(f"--log {masked(address)}: {unknown('logger', kind, LOGGERS)}")
    if not colon or not where:
        raise BadInput(f"--log {address}: say where: {kind}:WHERE, such as {EXAMPLES[kind]}")
    try:
        return resolve(LOGGERS[kind])(where)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"--log {masked(address)}: needs the package {error.name!r}: pip install 'hpo[{kind}]'"
        ) from error


EXAMPLES = {"csv": "csv:trials.csv", "tensorboard": "tensorboard:runs", "mlflow": "mlflow:sqlite:///mlflow.db"}


class Logging:
    """A watcher that tells a logger: of this run's trials as they end, before and after of all that it lacks."""

    def __init__(self, logger: Logger, ledger: Ledger) -> None:
        self._logger, self._ledger = logger, ledger
        self._study: str | None = None
        self._arms: dict[str, ArmRecord] = {}
        self._known: set[Key] = set()
        self._mine: set[Key] = set()

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None:
        del arms
        created = self._ledger.study(study.name).created.isoformat(timespec="seconds")
        records = self._ledger.arms(study.name)
        self._arms = {arm.label: arm for arm in records}
        self._known = set(self._logger.begin(Logged(study.name, created, records)))
        self._study = study.name
        self._fill()

    def opened(self, arm: ArmRun, proposal: Proposal) -> None:
        self._mine.add((arm.label, proposal.number))

    def placed(self, arm: ArmRun, number: int, place: Place) -> None: ...

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        if (arm.label, trial.number) in self._mine:  # another run's trial is that run's to log
            self._log(arm.label, trial, datetime.now(UTC))

    def ended(self, arm: ArmRun) -> None: ...

    def stop(self) -> None:
        if self._study is not None:
            self._fill()
            self._logger.end()

    def _fill(self) -> None:
        assert self._study is not None
        for label, records in self._ledger.figures(self._study).items():
            closed = {r.number: r.closed for r in records if r.closed and (label, r.number) not in self._known}
            if closed:
                for trial in self._ledger.trials(self._study, label, since=min(closed)):
                    if trial.number in closed:
                        self._log(label, trial, closed[trial.number])

    def _log(self, label: str, trial: Trial, closed: datetime) -> None:
        if (label, trial.number) not in self._known:
            self._logger.log(self._arms[label], trial, closed)
            self._known.add((label, trial.number))
