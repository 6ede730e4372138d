"""Studies and trials by hand, for the ledger to keep."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpo.spec import Study
from hpo.storage.ledger import Ledger
from hpo.trial import Cost, Outcome, Proposal

ARM = "drmad/0"


def changed(study: Study, **parts: Any) -> Study:
    return Study.model_validate(study.canonical() | parts)


def proposal(number: int, *values: float) -> Proposal:
    return Proposal(number, {"l2": np.array(values or (0.1,)), "learning_rate": np.array([0.05])}, "drmad")


def outcome(loss: float, **parts: Any) -> Outcome:
    return Outcome("complete", loss, loss + 0.1, cost=Cost(1, 600.0, 2.0), **parts)


def record(ledger: Ledger, number: int, loss: float, arm: str = ARM, **parts: Any) -> None:
    ledger.open_trial("digits", arm, proposal(number), ask_seconds=0.5)
    ledger.close_trial("digits", arm, number, outcome(loss, **parts))
