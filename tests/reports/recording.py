"""Trials by hand, for reports to read."""

from __future__ import annotations

import math

import numpy as np

from hpo.storage.claims import Terms
from hpo.storage.ledger import Ledger
from hpo.trial import Cost, Outcome, Proposal

FREE = Terms("trainings", 1e9, 1.0, 99)


def proposal(number: int) -> Proposal:
    return Proposal(number, {"l2": np.array([1e-3, 1e-2, 1.0]), "learning_rate": np.array([0.05])}, None)


def record(
    ledger: Ledger, arm: str, number: int, validation: float, test: float, study: str = "digits", cost: float = 600.0
) -> None:
    failure = None if math.isfinite(validation) else "diverged: the validation loss is not finite"
    outcome = Outcome("complete", validation, test, 0.9, cost=Cost(1, cost, 2.0), failure=failure)
    with ledger.attend(study, 1) as lease:
        claim = ledger.claim(lease, arm, proposal(number), 0.5, FREE)
        assert claim is not None
        assert ledger.close_trial(claim, outcome)


def left_running(ledger: Ledger, arm: str, number: int) -> None:
    with ledger.attend("digits", 1) as lease:
        assert ledger.claim(lease, arm, proposal(number), 100.0, FREE) is not None
