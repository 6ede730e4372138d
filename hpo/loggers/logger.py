"""What a logger does, and how it is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hpo.failures import BadInput, unknown
from hpo.registry import LOGGERS, resolve
from hpo.storage.address import masked
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, TrialRecord
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
        """Give the place back, also after a `begin` that raised."""
        ...


def logger(address: str) -> Logger:
    """The logger at `KIND:WHERE`. Raises BadInput for an unknown kind, and where its package is not installed."""
    kind, colon, where = address.partition(":")
    if kind not in LOGGERS:
        raise BadInput(masked(f"--log {address}: {unknown('logger', kind, LOGGERS)}"))
    if not colon or not where:
        raise BadInput(f"--log {masked(address)}: say where: {kind}:WHERE, such as {EXAMPLES[kind]}")
    try:
        return resolve(LOGGERS[kind])(where)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"--log {masked(address)}: needs the package {error.name!r}: pip install 'hpo[{kind}]'"
        ) from error


EXAMPLES = {"csv": "csv:trials.csv", "tensorboard": "tensorboard:runs", "mlflow": "mlflow:sqlite:///mlflow.db"}


class Logging:
    """A watcher that tells a logger of every trial once, however many runs of the study have one.

    A trial is its run's to log, as it is closed. What runs before did not log is written at the beginning, by the
    oldest of the runs that are alive.
    """

    def __init__(self, logger: Logger, ledger: Ledger) -> None:
        self._logger, self._ledger = logger, ledger
        self._study: str | None = None
        self._arms: dict[str, ArmRecord] = {}
        self._leases: set[int] = set()
        self._mine: dict[Key, Proposal] = {}

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None:
        del arms
        created = self._ledger.study(study.name).created.isoformat(timespec="microseconds")
        records = self._ledger.arms(study.name)
        self._arms = {arm.label: arm for arm in records}
        # In this order: what a run closed before it was over is logged when the logger is asked what it has.
        figures, runs = self._ledger.figures(study.name), self._ledger.under_way(study.name)
        known = set(self._logger.begin(Logged(study.name, created, records)))
        self._study = study.name
        self._leases = {token for token, own in runs.items() if own}
        if next(iter(runs.values()), True):
            self._write({k: r for k, r in _closed(figures).items() if r.lease not in runs and k not in known})

    def opened(self, arm: ArmRun, proposal: Proposal) -> None:
        self._mine[arm.label, proposal.number] = proposal

    def placed(self, arm: ArmRun, number: int, place: Place) -> None: ...

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        opened = self._mine.pop((arm.label, trial.number), None)
        if opened is trial.proposal:  # else it is read from the ledger: another run closed it, and logs it
            self._logger.log(self._arms[arm.label], trial, datetime.now(UTC))

    def ended(self, arm: ArmRun) -> None: ...

    def stop(self) -> None:
        """Writes also what was closed just before an interruption, which this was not told of."""
        try:
            if self._study is not None and self._mine:
                closed = _closed(self._ledger.figures(self._study))
                self._write({k: r for k, r in closed.items() if k in self._mine and r.lease in self._leases})
        finally:
            self._logger.end()

    def _write(self, lacking: Mapping[Key, TrialRecord]) -> None:
        assert self._study is not None  # begun
        for label in dict.fromkeys(label for label, _ in lacking):
            closed = {number: r.closed for (of, number), r in lacking.items() if of == label and r.closed is not None}
            for trial in self._ledger.trials(self._study, label, since=min(closed)):
                if trial.number in closed:
                    self._logger.log(self._arms[label], trial, closed[trial.number])


def _closed(figures: Mapping[str, Sequence[TrialRecord]]) -> dict[Key, TrialRecord]:
    return {(label, r.number): r for label, records in figures.items() for r in records if r.closed is not None}
