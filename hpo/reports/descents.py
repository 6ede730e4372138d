"""What a hypergradient arm did to its values, meta-iteration by meta-iteration, as plain numbers for figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.registry import AGREEING
from hpo.reports.arms import best
from hpo.reports.still import Still
from hpo.storage.records import ArmRecord, TrialRecord
from hpo.trial import Trial

Json = dict[str, Any]
Array = NDArray[np.float64]

FRAMES = 40
"""Meta-iterations that are drawn: of a longer arm evenly spaced ones, the last among them, and the selected one."""

COLUMNS = 40
"""Columns of a table that are drawn: those that end farthest from the default."""

QUANTILES = ("0", "0.05", "0.25", "0.5", "0.75", "0.95", "1")


def panel(ledger: Still, study: str, arm: ArmRecord, records: Sequence[TrialRecord]) -> Json | None:
    """Quantiles, layers, norms, pixels or columns of an arm's values; None if no trial of its own ended well."""
    complete = [r.number for r in records if r.state == "complete" and r.origin is None]
    if not complete:
        return None
    selected = best(records)
    wanted = _spaced(complete, None if selected is None else selected.number)
    trials = ledger.selected(study, arm.label, wanted)
    by_number = {r.number: r for r in records}
    drawn = [by_number[t.number] for t in trials]
    return {
        "study": study,
        "arm": arm.label,
        "title": arm.title,
        "seed": arm.seed,
        "trial": None if selected is None else selected.number,
        "trials": len(complete),
        "numbers": [t.number for t in trials],
        "validation": figures(r.validation_loss for r in drawn),
        "test": figures(r.test_loss for r in drawn),
        "groups": [_group(described, trials) for described in arm.space],
        "images": _images(arm, trials),
        "columns": _columns(arm, trials),
        "agreement": _agreement(drawn),
        "agreement_asked": bool(arm.settings.get("agreement")),
        "agreement_possible": arm.method in AGREEING,
    }


def _spaced(numbers: Sequence[int], also: int | None) -> list[int]:
    places = np.unique(np.linspace(0, len(numbers) - 1, min(FRAMES, len(numbers))).round().astype(int))
    return sorted({numbers[i] for i in places} | (set() if also is None else {also}))


def _group(described: Mapping[str, Any], trials: Sequence[Trial]) -> Json:
    name = described["name"]
    values = _values(trials, name)
    spread = np.quantile(values, [float(q) for q in QUANTILES], axis=1)
    return {
        **{key: described[key] for key in ("name", "per", "low", "high", "default", "log", "size")},
        "quantiles": {q: figures(row) for q, row in zip(QUANTILES, spread, strict=True)},
        "layers": [_layer(piece, values) for piece in described.get("pieces", [])],
        "norm": [_norm(t, name, described["log"]) for t in trials],
    }


def _layer(piece: Mapping[str, Any], values: Array) -> Json:
    own = values[:, piece["start"] : piece["stop"]]
    low, median, high = np.quantile(own, [0.25, 0.5, 0.75], axis=1)
    return {
        "name": piece["weight"], "size": own.shape[1],
        "low": figures(low), "median": figures(median), "high": figures(high),
    }  # fmt: skip


def _norm(trial: Trial, name: str, log: bool) -> float | None:
    """‖dL/dλ‖, of a hyperparameter that is searched on a log scale ‖dL/d ln λ‖ = ‖λ · dL/dλ‖."""
    given = None if trial.outcome is None else trial.outcome.hypergradient
    if given is None or name not in given:
        return None
    gradient = given[name] * trial.proposal.values[name] if log else given[name]
    return figures([math.hypot(*gradient)])[0]


def _on_inputs(arm: ArmRecord) -> tuple[Mapping[str, Any], int] | None:
    """The hyperparameter whose first values lie one by one on the inputs of the first weight, and how many they are."""
    if arm.inputs is None:
        return None
    size = int(np.prod(arm.inputs["shape"]))
    plane = int(np.prod(arm.inputs["shape"][-2:]))
    for described in arm.space:
        first = next(iter(described.get("pieces", [])), None)
        if first is None or first["start"] != 0 or described["low"] <= 0:
            continue
        if first["stop"] in (size, plane) and first["shape"] and first["shape"][-1] == first["stop"]:
            return described, first["stop"]
    return None


def _images(arm: ArmRecord, trials: Sequence[Trial]) -> Json | None:
    found = _on_inputs(arm)
    if found is None or arm.inputs is None or len(arm.inputs["shape"]) != 3:
        return None
    described, count = found
    _, height, width = arm.inputs["shape"]
    logs = np.log10(_values(trials, described["name"])[:, :count])
    frames = logs.reshape(len(trials), -1, height * width).mean(axis=1)
    middle, reach = _scale(described, frames)
    return {
        "name": described["name"], "shape": [height, width], "channels": count // (height * width),
        "frames": frames.round(3).tolist(), "middle": middle, "reach": reach,
    }  # fmt: skip


def _columns(arm: ArmRecord, trials: Sequence[Trial]) -> Json | None:
    found = _on_inputs(arm)
    names = None if arm.inputs is None else arm.inputs["names"]
    if found is None or names is None or len(names) != found[1]:
        return None
    described, count = found
    logs = np.log10(_values(trials, described["name"])[:, :count])
    middle, reach = _scale(described, logs)
    moved = np.argsort(-np.abs(logs[-1] - middle), kind="stable")[:COLUMNS]
    shown = moved[np.argsort(-logs[-1, moved], kind="stable")]
    return {
        "name": described["name"], "names": [names[i] for i in shown], "of": count,
        "numbers": [t.number for t in trials], "rows": logs[:, shown].T.round(3).tolist(),
        "middle": middle, "reach": reach,
    }  # fmt: skip


def _scale(described: Mapping[str, Any], logs: Array) -> tuple[float, float]:
    """log10 of the default, and how far any value gets from it; a tenth of a decade at least."""
    middle = float(np.log10(described["default"]))
    return middle, max(0.1, float(np.abs(logs - middle).max(initial=0.0)))


def _agreement(records: Sequence[TrialRecord]) -> dict[str, list[float | None]]:
    """Reported figures whose name begins with `cosine`, by name."""
    names = dict.fromkeys(name for r in records for name in r.report if name.startswith("cosine"))
    return {name: figures(r.report.get(name, np.nan) for r in records) for name in names}


def _values(trials: Sequence[Trial], name: str) -> Array:
    return np.stack([t.proposal.values[name] for t in trials])


def figures(values: Any) -> list[float | None]:
    """Four significant digits; None for what is not finite."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]
