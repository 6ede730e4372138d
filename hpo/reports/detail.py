"""What `hpo show NAME ARM` and `hpo show NAME ARM TRIAL` answer, as plain JSON values; not finite is null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpo.failures import BadInput
from hpo.reports.arms import Json, best, cost_of, finite, identity, state_of, total
from hpo.reports.listing import trial_entry
from hpo.reports.places import named
from hpo.reports.still import NEVER
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, TrialRecord
from hpo.trial import Array, Values

FEW = 10
"""Values at either end that are told by name."""


def arm(ledger: Ledger, study: str, label: str) -> Json:
    """One arm and its trials. Raises BadInput with the nearest name if there is no such arm."""
    record, trials = _arm(ledger, study, label)
    chosen = best(trials)
    return {
        "study": study,
        **identity(record),
        "state": state_of(record, trials, ledger.study(study).running),
        "settings": record.settings,
        "space": record.space,
        "inputs": record.inputs,
        "cost": cost_of(total(trials)),
        "best_trial": None if chosen is None else chosen.number,
        "trials": [trial_entry(record, trial) for trial in trials],
    }


def trial(ledger: Ledger, study: str, label: str, number: int | str) -> Json:
    """One trial: its figures, its values and hypergradient by layer, when and where it ran.

    Raises BadInput if there is no such arm, or with the range of numbers if the arm has no trial of that `number`.
    """
    record, trials = _arm(ledger, study, label)
    found = next((t for t in trials if str(t.number) == str(number)), None)
    if found is None:
        has = f"its trials are 0 … {trials[-1].number}" if trials else "it has none yet"
        raise BadInput(f"arm {label} has no trial {number}: {has}")
    [whole] = ledger.trials(study, label, since=NEVER, among=[found.number])
    outcome = whole.outcome
    run = None if found.lease is None else ledger.attendance(study).get(found.lease)
    return {
        "study": study,
        **identity(record),
        **trial_entry(record, found),
        "opened": found.opened.isoformat(timespec="seconds"),
        "closed": None if found.closed is None else found.closed.isoformat(timespec="seconds"),
        "ran": None if run is None else {"worker": run.worker, "host": run.host, "process": run.process},
        "curve": [] if outcome is None else [[finite(x) for x in point] for point in outcome.curve.tolist()],
        "values": _values(record, whole.proposal.values),
        "ends": None if outcome is None or outcome.ends is None else _values(record, outcome.ends),
        "hypergradient": None
        if outcome is None or outcome.hypergradient is None
        else _norms(record, outcome.hypergradient),
    }


def _arm(ledger: Ledger, study: str, label: str) -> tuple[ArmRecord, list[TrialRecord]]:
    ledger.trials(study, label, since=NEVER)  # the ledger knows the nearest name
    return next(a for a in ledger.arms(study) if a.label == label), ledger.figures(study)[label]


def _values(record: ArmRecord, values: Values) -> Json:
    """Of each hyperparameter the spread in each of its pieces, and the values at either end by name."""
    groups = {group["name"]: group for group in record.space}
    return {name: _group(groups[name], record.inputs, vector) for name, vector in values.items()}


def _group(group: Mapping[str, Any], inputs: Mapping[str, Any] | None, vector: Array) -> Json:
    order = np.argsort(vector, kind="stable")
    few = min(FEW, len(vector) // 2)
    ends = {"largest": order[::-1][:few], "smallest": order[:few]}
    return {
        "per": group["per"],
        "size": group["size"],
        "low": group["low"],
        "high": group["high"],
        "pieces": [{"where": where, **_spread(vector[part])} for where, part in _parts(group)],
        **{
            end: [{"name": named(group, inputs, int(i)), "value": finite(float(vector[i]))} for i in indices]
            for end, indices in ends.items()
        },
    }


def _parts(group: Mapping[str, Any]) -> list[tuple[str, slice]]:
    """Where the values of a group go: a weight each, or all of them together."""
    pieces = group.get("pieces", ())
    if group["per"] == "global" or not pieces:
        return [("all", slice(0, group["size"]))]
    return [(p["weight"], slice(p["start"], p["stop"])) for p in pieces]


def _spread(values: Array) -> Json:
    at = dict(zip(("min", "q1", "median", "q3", "max"), np.quantile(values, [0, 0.25, 0.5, 0.75, 1]), strict=True))
    return {"count": len(values), **{name: finite(float(value)) for name, value in at.items()}}


def _norms(record: ArmRecord, hypergradient: Values) -> Json:
    """‖d(validation loss)/d(values)‖₂ of each hyperparameter and of each of its pieces."""
    groups = {group["name"]: group for group in record.space}
    return {
        name: {
            "norm": finite(float(np.linalg.norm(vector))),
            "pieces": [
                {"where": where, "norm": finite(float(np.linalg.norm(vector[part])))}
                for where, part in _parts(groups[name])
            ],
        }
        for name, vector in hypergradient.items()
    }
