"""Checkpoints of a trial that runs: all or nothing, and only by the run that has it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from hpo.storage import arrays
from hpo.storage.arrays import Named
from hpo.storage.claims import LAST_EVENT, Claim
from hpo.storage.tables import CheckpointRow, EventRow, TrialRow


def save(session: Session, claim: Claim, fresh: Named, stays: Collection[str] = ()) -> bool:
    """Replaces the trial's checkpoint by `fresh` and those of its arrays whose names are in `stays`.

    False, and nothing is written, if this run has the trial no more.
    """
    mine = update(TrialRow).where(
        TrialRow.id == claim.trial_id, TrialRow.lease == claim.lease.token, TrialRow.state == "running"
    )
    if session.scalar(mine.values(lease=claim.lease.token).returning(TrialRow.id)) is None:
        return False
    of_trial = CheckpointRow.trial_id == claim.trial_id
    gone = set(session.scalars(select(CheckpointRow.name).where(of_trial))).difference(stays)
    if gone:
        session.execute(delete(CheckpointRow).where(of_trial, CheckpointRow.name.in_(gone)))
    last = session.scalar(select(func.max(EventRow.id)).where(EventRow.trial_id == claim.trial_id)) or 0
    session.add_all(arrays.pack(claim.trial_id, {**fresh, LAST_EVENT: np.array(last)}, CheckpointRow))
    return True


def load(session: Session, claim: Claim) -> dict[str, NDArray[Any]] | None:
    """The trial's checkpoint, None if it has none."""
    rows = session.scalars(select(CheckpointRow).where(CheckpointRow.trial_id == claim.trial_id))
    named = {row.name: arrays.unpack(row) for row in rows}
    named.pop(LAST_EVENT, None)
    return named or None
