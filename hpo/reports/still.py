"""A ledger that stands still: what is listed of a study stays what it was at the first look, while others run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, StudyRecord, TrialRecord
from hpo.trial import Trial

NEVER = 2**31 - 1
"""A number that no trial has."""


class _Listed(NamedTuple):
    study: StudyRecord
    arms: list[ArmRecord]
    figures: dict[str, list[TrialRecord]]


class Still(Ledger):
    """Another ledger's connections; a study, its arms and its figures are read from them once, together."""

    def __init__(self, ledger: Ledger) -> None:
        vars(self).update(vars(ledger))
        self._moving = ledger
        self._listed: dict[str, _Listed] = {}

    def study(self, name: str) -> StudyRecord:
        """As `Ledger.study`."""
        return self._list(name).study

    def arms(self, study: str) -> list[ArmRecord]:
        """As `Ledger.arms`."""
        return self._list(study).arms

    def figures(self, study: str) -> dict[str, list[TrialRecord]]:
        """As `Ledger.figures`, of the arms that were listed."""
        return self._list(study).figures

    def selected(self, study: str, arm: str, numbers: Sequence[int]) -> list[Trial]:
        """Only these trials of an arm, with their arrays."""
        return self._moving.trials(study, arm, since=NEVER, among=numbers)

    def _list(self, name: str) -> _Listed:
        if name not in self._listed:
            study, arms, figures = self._moving.study(name), self._moving.arms(name), self._moving.figures(name)
            known = {arm.label for arm in arms}  # arms that came meanwhile are left out
            own = {label: trials for label, trials in figures.items() if label in known}
            self._listed[name] = _Listed(study, arms, own)
        return self._listed[name]
