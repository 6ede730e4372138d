"""Finished trials of Optuna's studies as the past of our black-box arms, which then need not make them again."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpo.failures import BadInput, unknown
from hpo.interop import stored
from hpo.registry import DECIDERS
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord
from hpo.trial import Array, Cost, Outcome, Proposal, Trial, Values

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Groups = Sequence[Mapping[str, Any]]
"""The groups of a space as `Ledger.arms` tells them: name, low, high, size …"""


class Past(NamedTuple):
    """The complete trials of a study of Optuna's, the pruned ones that reported a loss, and how many others it has."""

    trials: list[Trial]
    skipped: int


class Brought(NamedTuple):
    """How many trials an arm was given, and how many were left out: running, failed, pruned without a loss."""

    trials: int
    skipped: int


def bring(
    ledger: Ledger,
    url: str,
    study: str,
    arm: str | None = None,
    optuna_study: str | None = None,
    folder: Path | None = None,
) -> dict[str, Brought]:
    """Give the black-box arms of `study`, or the one called `arm`, the trials that Optuna has at `url`; by label.

    An arm takes Optuna's study `STUDY/LABEL` if there is one, or the one called `optuna_study`. All is read before
    anything is stored. Raises BadInput if there is no such study, an arm decides by hypergradients, its space is not
    known yet or it has these trials already, or as `read`.
    """
    takers = _takers(ledger, study, arm, optuna_study)
    wanted = {taker.label: optuna_study or stored.study_name(study, taker.label) for taker in takers}
    with stored.opened(url, create=False) as storage:
        names = _names(storage)
        sources = {label: name for label, name in wanted.items() if name in names}
        if not sources:
            raise BadInput(unknown("study of Optuna", wanted[takers[0].label], names))
        origins = {label: f"{stored.shown(url)} {name}" for label, name in sources.items()}
        _refuse_twice(ledger, study, origins)
        spaces = {taker.label: taker.space for taker in takers}
        pasts = {label: _Reader(storage, url, name, spaces[label], folder).past() for label, name in sources.items()}
    for label, past in pasts.items():
        ledger.adopt(study, label, past.trials, origins[label])
    return {label: Brought(len(past.trials), past.skipped) for label, past in pasts.items()}


def read(url: str, optuna_study: str, groups: Groups, folder: Path | None = None) -> Past:
    """The complete and pruned trials of one of Optuna's studies as trials in these groups, numbered as there.

    A vector is its parameters `l2[0]` …, else what the artifact in `folder` says (see `stored`). The value becomes the
    validation loss; a trial whose value is infinite has failed. There is no test figure, no curve and no cost. A pruned
    trial's loss is the last it reported, and its curve what it reported; without a report it is left out.
    Raises BadInput naming the trial and the parameter that is missing, unknown, no number or outside its group's range;
    for another direction than minimize; for an unknown study. BadStorage for the database.
    """
    with stored.opened(url, create=False) as storage:
        if optuna_study not in _names(storage):
            raise BadInput(unknown("study of Optuna", optuna_study, _names(storage)))
        return _Reader(storage, url, optuna_study, groups, folder).past()


def _takers(ledger: Ledger, study: str, arm: str | None, optuna_study: str | None) -> list[ArmRecord]:
    """The arms that are given trials."""
    arms = {a.label: a for a in ledger.arms(study)}
    if arm is not None and arm not in arms:
        raise BadInput(f"study {study!r}: " + unknown("arm", arm, arms))
    deciding = [label for label, a in arms.items() if a.method not in DECIDERS]
    takers = [arms[label] for label in deciding if arm in (None, label)]
    if not takers:
        raise BadInput(
            f"{arm or study} decides by hypergradients, which the trials of Optuna do not have: the black-box arms of "
            f"{study} are {', '.join(deciding) or '(none)'}"
        )
    if optuna_study is not None and len(takers) > 1:
        raise BadInput(f"{optuna_study!r} can go to one arm only: say which with --arm: {', '.join(deciding)}")
    early = [taker.label for taker in takers if not taker.space]
    if early:
        raise BadInput(
            f"{study}: the space of {', '.join(early)} is not known before the study has begun: run it first"
        )
    return takers


def _refuse_twice(ledger: Ledger, study: str, origins: Mapping[str, str]) -> None:
    """Before any arm is given something: the ledger refuses arm by arm."""
    records = ledger.figures(study)
    again = [label for label, origin in origins.items() if any(record.origin == origin for record in records[label])]
    if again:
        others = [label for label in origins if label not in again]
        remedy = f"; import into {', '.join(others)} with --arm" if others else ""
        raise BadInput(f"{', '.join(again)} of {study} has these trials already, nothing was imported{remedy}")


def _names(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


class _Reader(NamedTuple):
    """Reads the study `name` into groups; `folder` is looked into only for what is no parameter."""

    storage: BaseStorage
    url: str
    name: str
    groups: Groups
    folder: Path | None

    def past(self) -> Past:
        from optuna import load_study
        from optuna.trial import TrialState

        study = load_study(study_name=self.name, storage=self.storage)
        directions = " and ".join(direction.name.lower() for direction in study.directions)
        if directions != "minimize":
            raise BadInput(f"{self.name}: its direction is {directions}: a validation loss can only be minimized")
        trials = study.get_trials(deepcopy=False)
        ended = [
            trial
            for trial in trials
            if trial.state == TrialState.COMPLETE or (trial.state == TrialState.PRUNED and trial.intermediate_values)
        ]
        return Past([self._trial(trial) for trial in ended], len(trials) - len(ended))

    def _trial(self, trial: FrozenTrial) -> Trial:
        from optuna.trial import TrialState

        known = [name for g in self.groups for name in (*_parameters(g), *stored.summaries(g["name"]))]
        strange = [name for name in trial.params if name not in known]
        if strange:
            raise BadInput(f"{self._at(trial)}: the arm has no parameter {strange[0]!r}: expected {self._expected()}")
        kept = {}
        if any(name not in trial.params for g in self.groups for name in _parameters(g)):
            kept = self._arrays(trial)
        values = {g["name"]: self._vector(trial, g, kept) for g in self.groups}
        if trial.state == TrialState.PRUNED:
            return Trial(Proposal(trial.number, values), stored.pruned(trial))
        loss = float(trial.values[0])
        if math.isfinite(loss):
            outcome = Outcome("complete", loss, math.nan, cost=Cost(0))
        else:
            outcome = Outcome("failed", loss, math.nan, cost=Cost(0), failure=f"its value in Optuna is {loss}")
        return Trial(Proposal(trial.number, values), outcome)

    def _vector(self, trial: FrozenTrial, group: Mapping[str, Any], kept: Values) -> Array:
        names, low, high = _parameters(group), group["low"], group["high"]
        given = [trial.params[name] for name in names if name in trial.params]
        if len(given) < len(names):
            given = kept.get(group["name"], np.zeros(0)).tolist()
        if len(given) != len(names):
            missing = next(name for name in names if name not in trial.params)
            raise BadInput(f"{self._at(trial)}: parameter {missing!r} is missing: expected {self._expected()}")
        for name, value in zip(names, given, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise BadInput(f"{self._at(trial)}: {name} is {value!r}: give a number between {low:g} and {high:g}")
        return np.array(given, dtype=np.float64)

    def _arrays(self, trial: FrozenTrial) -> Values:
        """The vectors of values that a trial keeps in its artifact, none if it has none."""
        from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
        from optuna.artifacts.exceptions import ArtifactNotFound

        notes = get_all_artifact_meta(trial, storage=self.storage)
        note = next((note for note in notes if note.filename == stored.ARRAYS), None)
        if note is None:
            return {}
        folder = stored.artifacts(self.url, self.folder)
        try:
            with FileSystemArtifactStore(folder).open_reader(note.artifact_id) as file:
                packed = np.load(io.BytesIO(file.read()), allow_pickle=False)
            return {name.removeprefix("values/"): packed[name] for name in packed if name.startswith("values/")}
        except ArtifactNotFound as error:
            raise BadInput(
                f"{self._at(trial)}: its artifact {note.artifact_id} is not in {folder}: give the one with --artifacts"
            ) from error
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"{self._at(trial)}: its artifact {folder / note.artifact_id} cannot be read ({error}): export it again"
            ) from error

    def _at(self, trial: FrozenTrial) -> str:
        return f"trial {trial.number} of {self.name}"

    def _expected(self) -> str:
        """`l2[0] … l2[71] or an artifact arrays.npz, learning_rate`."""
        return ", ".join(
            name
            if size == 1
            else f"{name}[0] … {name}[{size - 1}]" + (f" or {stored.ARRAYS}" if size > stored.FEW else "")
            for name, size in ((g["name"], g["size"]) for g in self.groups)
        )


def _parameters(group: Mapping[str, Any]) -> list[str]:
    return stored.parameters(group["name"], group["size"])
