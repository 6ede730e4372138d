"""What `hpo list` and `hpo show` answer, as plain JSON values read from the ledger.

A number that is not finite is null. `show` has the keys of the command line's contract and a few more.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpo.reports.arms import Json, cost_of, finite, identity, state_of, total
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, TrialRecord


def studies(ledger: Ledger) -> list[Json]:
    """One entry per study, oldest first; `trials` counts those that ended."""
    return [
        {
            "study": s.name,
            "created": s.created.isoformat(timespec="seconds"),
            "arms": sum(s.arms.values()),
            "trials": s.trials,
            "state": _study_state(s.arms, s.running),
            "best_validation_loss": finite(s.best_validation_loss),
        }
        for s in ledger.studies()
    ]


def show(ledger: Ledger, name: str) -> Json:
    """One study, its arms, their trials. Raises BadInput if there is no such study."""
    record = ledger.study(name)
    running = record.running
    arms = ledger.arms(name)
    trials = ledger.figures(name)
    return {
        "study": name,
        "created": record.created.isoformat(timespec="seconds"),
        "versions": record.versions,
        "spec": record.spec.canonical(),
        "arms": [
            {
                **identity(arm),
                "state": state_of(arm, trials[arm.label], running),
                "settings": arm.settings,
                "cost": cost_of(total(trials[arm.label])),
                "trials": [trial_entry(arm, trial) for trial in trials[arm.label]],
            }
            for arm in arms
        ],
    }


def trial_entry(arm: ArmRecord, trial: TrialRecord) -> Json:
    """One trial in the `show` of its arm."""
    grains = {group["name"]: group["per"] for group in arm.space}
    return {
        "number": trial.number,
        "state": trial.state,
        "validation_loss": finite(trial.validation_loss),
        "test_loss": finite(trial.test_loss),
        "test_accuracy": finite(trial.test_accuracy),
        "seconds": trial.cost.seconds,
        "ask_seconds": trial.ask_seconds,
        "trainings": trial.cost.trainings,
        "gradient_evaluations": trial.cost.gradient_evaluations,
        "derivative": trial.derivative,
        "origin": trial.origin,
        "failure": trial.failure,
        "report": {name: finite(figure) for name, figure in trial.report.items()},
        "hyper": {
            name: {"per": grains.get(name), "min": low, "median": median, "max": high}
            for name, (low, median, high) in trial.summary.items()
        },
    }


def _study_state(arms: Mapping[str, int], running: bool) -> str:
    if running:
        return "running"
    if arms.get("open"):
        return "stopped"
    return "failed" if arms.get("failed") else "complete"
