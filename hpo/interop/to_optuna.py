"""A study of ours as studies of Optuna, one for each arm, for its plots and dashboard.

Cost: about 2 ms for each parameter and each point of a learning curve, on SQLite: a trial of 16 values and 50 points
takes a tenth of a second.
"""

from __future__ import annotations

import io
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.failures import BadInput
from hpo.interop import stored
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, TrialRecord
from hpo.trial import Array, Outcome, Trial

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


def write(ledger: Ledger, name: str, url: str, folder: Path | None = None) -> list[str]:
    """Write every arm of the study `name` to the database at `url`; returns the names of Optuna's studies.

    Optuna's trials are our closed ones, in their order: the value is the validation loss (a trial without a finite one
    is failed, unless it was pruned), the intermediate values are the learning curve, the parameters lie in the group's
    own range, the test figures, costs, report and our number are user attributes. `folder`: of the artifacts, see
    `stored`.
    All or nothing: what was made is removed when anything fails. Raises BadInput if nothing has finished, a study of
    that name is there or the folder cannot be written; BadStorage for the database.
    """
    records, arms = ledger.figures(name), ledger.arms(name)
    closed = {label: {r.number: r for r in told if r.closed is not None} for label, told in records.items()}
    if not any(closed.values()):
        raise BadInput(f"{name} has no finished trial yet: run it first")
    kept = stored.artifacts(url, folder)
    with stored.opened(url, create=True) as storage, ExitStack() as undo:
        studies = [_begun(storage, name, arm, undo) for arm in arms]
        _make(kept, undo)
        for arm, study in zip(arms, studies, strict=True):
            for trial in ledger.trials(name, arm.label):
                if trial.number in closed[arm.label]:
                    study.add_trial(_trial(arm, trial, closed[arm.label][trial.number], kept, undo))
        undo.pop_all()
    return [study.study_name for study in studies]


def _begun(storage: optuna.storages.BaseStorage, study: str, arm: ArmRecord, undo: ExitStack) -> optuna.Study:
    """The empty study of an arm; its name is taken from here on."""
    import optuna

    name = stored.study_name(study, arm.label)
    try:
        begun = optuna.create_study(study_name=name, storage=storage, direction="minimize")
    except optuna.exceptions.DuplicatedStudyError as error:
        raise BadInput(
            f"that database holds a study {name!r} of Optuna: delete it there, or give another one"
        ) from error
    undo.callback(optuna.delete_study, study_name=name, storage=storage)
    told = ("method", "solver", "per", "seed", "settings")
    for key, value in {"study": study, "arm": arm.label, **{key: getattr(arm, key) for key in told}}.items():
        begun.set_user_attr(key, value)
    return begun


def _trial(
    arm: ArmRecord, trial: Trial, record: TrialRecord, folder: Path, undo: ExitStack
) -> optuna.trial.FrozenTrial:
    from optuna.trial import FrozenTrial, TrialState

    outcome = trial.outcome
    assert outcome is not None and record.closed is not None  # `write` leaves running ones out
    params, distributions = _parameters(arm.space, trial)
    otherwise = TrialState.PRUNED if outcome.state == "pruned" else TrialState.FAIL
    state = TrialState.COMPLETE if outcome.usable else otherwise
    return FrozenTrial(
        number=-1,  # Optuna numbers it
        trial_id=-1,
        state=state,
        value=None if state == TrialState.FAIL or math.isnan(outcome.validation_loss) else outcome.validation_loss,
        datetime_start=_local(record.opened),
        datetime_complete=_local(record.closed),
        params=params,
        distributions=distributions,
        user_attrs=_attributes(trial, outcome),
        system_attrs=_artifact(_vectors(trial, outcome), folder, undo),
        intermediate_values={int(step): float(loss) for step, _, loss in outcome.curve},
    )


def _parameters(
    groups: Sequence[Mapping[str, Any]], trial: Trial
) -> tuple[dict[str, float], dict[str, BaseDistribution]]:
    from optuna.distributions import FloatDistribution

    params: dict[str, float] = {}
    distributions: dict[str, BaseDistribution] = {}
    for group in groups:
        values = trial.proposal.values[group["name"]]
        if group["size"] <= stored.FEW:
            named = zip(stored.parameters(group["name"], group["size"]), values, strict=True)
        else:
            spread = values.min(), np.median(values), values.max()
            named = zip(stored.summaries(group["name"]), spread, strict=True)
        for name, value in named:
            params[name] = float(value)
            distributions[name] = FloatDistribution(group["low"], group["high"], log=group["log"])
    return params, distributions


def _attributes(trial: Trial, outcome: Outcome) -> dict[str, Any]:
    """What a trial has to tell besides its validation loss, the finite figures only."""
    figures = {
        "test_loss": outcome.test_loss,
        "test_accuracy": outcome.test_accuracy,
        **asdict(outcome.cost),
        **{f"report.{name}": figure for name, figure in outcome.report.items()},
    }
    finite = {name: figure for name, figure in figures.items() if figure is not None and math.isfinite(figure)}
    ended = outcome.usable or outcome.state == "pruned"
    failure = outcome.failure or (None if ended else f"its validation loss is {outcome.validation_loss}")
    words = {name: word for name, word in (("failure", failure), ("origin", trial.origin)) if word is not None}
    return {"number": trial.number, **finite, **words}


def _vectors(trial: Trial, outcome: Outcome) -> dict[str, Array]:
    parts = {"values": trial.proposal.values, "hypergradient": outcome.hypergradient, "ends": outcome.ends}
    return {f"{part}/{name}": vector for part, named in parts.items() for name, vector in (named or {}).items()}


def _artifact(vectors: Mapping[str, Array], folder: Path, undo: ExitStack) -> dict[str, str]:
    """The vectors in a file of their own; how Optuna notes it at the trial, which no longer can once that is closed."""
    from optuna.artifacts import ArtifactMeta, FileSystemArtifactStore

    meta = ArtifactMeta(str(uuid.uuid4()), stored.ARRAYS, "application/zip", None)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **vectors)
    packed.seek(0)
    undo.callback((folder / meta.artifact_id).unlink, missing_ok=True)
    try:
        FileSystemArtifactStore(folder).write(meta.artifact_id, packed)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror})") from error
    return {f"artifacts:{meta.artifact_id}": json.dumps(asdict(meta))}


def _local(moment: datetime) -> datetime:
    """As Optuna keeps time: by the machine's clock, without a zone."""
    return moment.astimezone().replace(tzinfo=None)


def _make(folder: Path, undo: ExitStack) -> None:
    if folder.is_dir():
        return
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}): give a path in a folder that exists") from error
    undo.callback(folder.rmdir)
