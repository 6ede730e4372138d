"""A study in a ledger without a training: one arm of many values, one of few, failed and running trials among them."""

from __future__ import annotations

import numpy as np

from hpo.space import Group, Space
from hpo.spec import Study
from hpo.storage.claims import Terms
from hpo.storage.ledger import Ledger
from hpo.trial import Cost, Outcome, Proposal, Trial

MANY, SEVERAL = 72, 3
NAME, DESCENT, SAMPLER = "digits", "drmad/0", "tpe-layer/0"
ARTIFACTS = "optuna-artifacts"


def study(name: str = NAME) -> Study:
    return Study.model_validate(
        {
            "name": name,
            "problem": {"data": "digits", "split": {"train": 300, "validation": 600}, "model": {"mlp": [8]}},
            "training": {"steps": 600, "batch_size": 100},
            "space": {"l2": {"per": "neuron", "low": 1e-6, "high": 1.0}, "learning_rate": {}},
            "methods": ["drmad", {"name": "tpe", "per": "layer"}, {"name": "random", "label": "wide"}],
            "budget": {"trainings": 30},
        }
    )


def space(size: int) -> Space:
    return Space(
        (
            Group("l2", "neuron", 1e-6, 1.0, 1e-3, True, size, ()),
            Group("learning_rate", "global", 0.0, 0.5, 0.05, False, 1, ()),
        )
    )


SPACES = {DESCENT: space(MANY), SAMPLER: space(SEVERAL), "wide/0": space(MANY)}


def begun(ledger: Ledger, name: str = NAME) -> None:
    ledger.begin(study(name), {"python": "3.11"})
    for label, resolved in SPACES.items():
        ledger.describe(name, label, resolved, {"seed": 0, "rates": [0.1, 0.2]})


def outcome(number: int, values: dict[str, np.ndarray]) -> Outcome:
    """Trial 2 ended without a finite loss, trial 3 failed; the others are worse the larger their values."""
    loss = float(np.mean(np.abs(np.log(values["l2"]) + 3)) + values["learning_rate"][0])
    curve = np.array([[10.0, 2.0, loss + 1], [20.0, np.nan, np.nan if number == 3 else np.inf], [30.0, 0.5, loss]])
    told = {"curve": curve, "cost": Cost(1, 600.0, 2.0), "report": {"movement": 0.25, "alignment": np.nan}}
    if number == 2:
        return Outcome("complete", np.inf, np.nan, **told)
    if number == 3:
        return Outcome("failed", np.nan, np.nan, failure="it overflowed at step 7", **told)
    slope = {name: np.linspace(-1, 1, len(vector)) for name, vector in values.items()}
    return Outcome("complete", loss, loss + 0.1, 0.9, hypergradient=slope, ends=values, **told)


def recorded(ledger: Ledger, trials: int = 8) -> dict[str, list[Trial]]:
    """Every arm's trials, closed but for the last, which still runs."""
    begun(ledger)
    generator = np.random.default_rng(0)
    with ledger.attend(NAME, slots=1) as lease:
        for label, resolved in SPACES.items():
            for number in range(trials):
                drawn = generator.uniform(*resolved.bounds())
                values = dict(resolved.unflatten(drawn))
                claim = ledger.claim(lease, label, Proposal(number, values), 0.5, Terms("trainings", 30, 1, 1))
                assert claim is not None
                if number < trials - 1:
                    assert ledger.close_trial(claim, outcome(number, values))
    return {label: ledger.trials(NAME, label) for label in SPACES}
