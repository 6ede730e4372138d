"""Studies and trials by hand, for the ledger to keep."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpo.spec import Study
from hpo.storage.claims import Claim, Found, Terms
from hpo.storage.leases import Lease
from hpo.storage.ledger import Ledger
from hpo.trial import Cost, Outcome, Proposal

ARM = "drmad/0"
FREE = Terms("trainings", 1e9, 1.0, 99)
"""Terms that let any trial start."""


def changed(study: Study, **parts: Any) -> Study:
    return Study.model_validate(study.canonical() | parts)


def proposal(number: int, *values: float) -> Proposal:
    return Proposal(number, {"l2": np.array(values or (0.1,)), "learning_rate": np.array([0.05])}, "drmad")


def outcome(loss: float, **parts: Any) -> Outcome:
    return Outcome("complete", loss, loss + 0.1, cost=Cost(1, 600.0, 2.0), **parts)


def claimed(
    ledger: Ledger, lease: Lease, number: int, *values: float, arm: str = ARM, ask_seconds: float = 0.5
) -> Claim:
    """A running trial of this run."""
    claim = ledger.claim(lease, arm, proposal(number, *values), ask_seconds, FREE)
    assert claim is not None
    return claim


def record(ledger: Ledger, number: int, loss: float, arm: str = ARM, **parts: Any) -> None:
    with ledger.attend("digits", 1) as lease:
        assert ledger.close_trial(claimed(ledger, lease, number, arm=arm), outcome(loss, **parts))


def left_running(ledger: Ledger, number: int, *values: float, arm: str = ARM, ask_seconds: float = 0.5) -> None:
    """A running trial whose run is gone."""
    with ledger.attend("digits", 1) as lease:
        claimed(ledger, lease, number, *values, arm=arm, ask_seconds=ask_seconds)


def taken_up(ledger: Ledger, lease: Lease, *hand: Claim) -> Found | None:
    """A running trial of any arm that nobody has, or that this run does not have in hand."""
    labels = [arm.label for arm in ledger.arms(lease.study)]
    return ledger.take_up(lease, labels, [claim.trial_id for claim in hand])
