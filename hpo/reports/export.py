"""The best trial as files: weights, hyperparameters, the study, and ten lines that load them."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from hpo import study_file
from hpo.failures import BadInput, unknown
from hpo.storage.ledger import Ledger
from hpo.storage.records import TrialRecord

EXAMPLE = '''"""Loads the exported network and measures it on the test rows of its study (data folder: HPO_DATA)."""

import os
from pathlib import Path

from hpo.problems.problem import build
from hpo.study_file import load
from safetensors.torch import load_file

here = Path(__file__).parent
study = load(here / "study.yaml")
data_dir = Path(os.environ["HPO_DATA"]) if "HPO_DATA" in os.environ else None
problem = build(study.problem, study.training.batch_size, {seed}, data_dir)
outputs = problem.network.forward(load_file(here / "weights.safetensors"), problem.test.inputs)
print(f"test loss {{problem.criterion(outputs, problem.test.targets).item():.6f}}, recorded {test_loss:.6f}")
'''


def write(ledger: Ledger, study: str, folder: Path, arm: str | None) -> tuple[str, int]:
    """Write weights.safetensors, hyperparameters.json, study.yaml and load.py into a new `folder`.

    Takes the trial with the lowest validation loss of the study, or of one arm; returns its arm and number. Raises
    BadInput if the folder is not empty, the arm is unknown or no trial is usable.
    """
    label, record = chosen(ledger, study, arm)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists and is not an empty folder: give a new one")
    weights = ledger.weights(study, label, record.number)
    trial = next(t for t in ledger.trials(study, label) if t.number == record.number)
    assert weights is not None  # the ledger keeps those of the best trial of every arm
    spec = ledger.study(study).spec
    seed = next(a.seed for a in spec.arms() if a.label == label)
    contents = {
        "study": study, "arm": label, "trial": record.number, "seed": seed,
        "validation_loss": record.validation_loss, "test_loss": record.test_loss, "test_accuracy": record.test_accuracy,
        "values": {name: values.tolist() for name, values in trial.proposal.values.items()},
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.asarray(w, order="C") for name, w in weights.items()}, folder / "weights.safetensors")
        (folder / "hyperparameters.json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        (folder / "study.yaml").write_text(study_file.text(spec), encoding="utf-8")
        (folder / "load.py").write_text(EXAMPLE.format(seed=seed, test_loss=record.test_loss), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror})") from error
    return label, record.number


def chosen(ledger: Ledger, study: str, arm: str | None) -> tuple[str, TrialRecord]:
    """The trial with the lowest validation loss of the study, or of one arm. Raises BadInput if none is usable."""
    figures = ledger.figures(study)
    if arm is not None and arm not in figures:
        raise BadInput(unknown("arm", arm, figures))
    candidates = [
        (record.validation_loss, label, record)
        for label, records in figures.items()
        for record in records
        if arm in (None, label) and record.state == "complete" and math.isfinite(record.validation_loss)
    ]
    if not candidates:
        told = figures.values() if arm is None else [figures[arm]]
        raise BadInput(_nothing_usable(study, arm, chain.from_iterable(told)))
    _, label, record = min(candidates, key=lambda c: (c[0], c[1], c[2].number))
    return label, record


def _nothing_usable(study: str, arm: str | None, trials: Iterable[TrialRecord]) -> str:
    ended = sum(trial.closed is not None and trial.origin is None for trial in trials)
    if not ended:
        return f"{arm or study} has no finished trial yet: run it first"
    shown = shlex.join([study, arm] if arm else [study])
    return f"{arm or study} has no usable trial, though {ended} ended: hpo show {shown} tells why"
