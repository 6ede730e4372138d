"""Leases: which runs of a study are under way, and which are dead.

A run of a study holds one lease; its number is the token that every write of its trials carries, and it beats every few
seconds. A lease ends when its run says so, when its worker comes back under its own name, when its process on this
machine is gone, or when it has been silent: no beat for `lease` seconds by the database's clock, and none while this
run watched for two beats by a clock that no one can set. So a jump of a clock ends no lease of a run that is alive.
What a dead run left running is free to be taken up, from its last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqlalchemy import delete, insert, literal, null, select, update
from sqlalchemy.orm import Session

from hpo.failures import BadStorage
from hpo.storage.process import Process, this_process
from hpo.storage.tables import ArmRow, EventKind, EventRow, LeaseRow, StudyRow, TrialRow


class Times(NamedTuple):
    """Seconds between two beats, of silence that end a lease, and that a verb waits for a database to come back."""

    beat: float = 10.0
    lease: float = 60.0
    patience: float = 60.0


USUAL = Times()


class Lease(NamedTuple):
    """What a run of a study writes with."""

    token: int
    study: str
    study_id: int
    worker: str


class LeaseLost(BadStorage):
    """This run was taken for dead, and its trials were given to others."""


class Watch:
    """When this run saw each lease beat last, by its own clock."""

    def __init__(self, times: Times, clock: Callable[[], float] = time.monotonic) -> None:
        self.times = times
        self._clock = clock
        self._looked = -math.inf
        self._seen: dict[int, tuple[float, float]] = {}

    def look(self) -> None:
        """Begins anew where this run has not looked for two beats: it was stopped, or could not reach the database,
        and then others may not have been able to beat.
        """
        if self._clock() - self._looked > 2 * self.times.beat:
            self._seen = {}
        self._looked = self._clock()

    def silent(self, row: LeaseRow, now: float) -> bool:
        """Whether the lease has ended by itself; `now`: the database's clock."""
        beat, since = self._seen.get(row.id, (None, 0.0))
        if beat != row.beat:
            self._seen[row.id] = row.beat, self._clock()
            return False
        watched = self._clock() - since >= 2 * self.times.beat
        return watched and abs(now - row.beat) > self.times.lease


def attend(session: Session, study: StudyRow, worker: str | None, slots: int, now: float) -> Lease:
    """A new lease. Ends those of the same name, of this process, and of processes of this machine that are gone.

    Raises BadStorage if a process of that name is alive here.
    """
    here = this_process()
    name = worker or f"{here.host}:{here.pid}"
    for row in leases(session, study.id):
        holder = _process(row)
        if row.worker == name and holder.here and holder != here and holder.alive():
            raise BadStorage(
                f"study {study.name!r} is being run by {holder} as worker {name!r}: give this one another --worker"
            )
        if row.worker == name or holder == here or not holder.alive():
            end(session, row.id, "lost")
    row = LeaseRow(study_id=study.id, worker=name, slots=slots, beat=now, **here._asdict())
    session.add(row)
    session.flush()
    detail = {"worker": name, "host": here.host, "process": here.pid, "slots": slots}  # the lease itself will be gone
    session.add(EventRow(study_id=study.id, lease=row.id, kind="attended", detail=detail))
    return Lease(row.id, study.name, study.id, name)


def leases(session: Session, study_id: int) -> list[LeaseRow]:
    """All of a study, oldest first."""
    return list(session.scalars(select(LeaseRow).where(LeaseRow.study_id == study_id).order_by(LeaseRow.id)))


def beat(session: Session, lease: Lease, now: float) -> bool:
    """Whether the lease still stands; if so it has beaten."""
    beating = update(LeaseRow).where(LeaseRow.id == lease.token).values(beat=now).returning(LeaseRow.id)
    return session.scalar(beating) is not None


def check(session: Session, lease: Lease) -> None:
    """Raises LeaseLost if the lease has ended; if not, it stands until the session ends, and whoever ends it waits."""
    held = select(LeaseRow.id).where(LeaseRow.id == lease.token).with_for_update(read=True, key_share=True)
    if session.scalar(held) is None:
        raise _lost(lease)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(
        f"study {lease.study!r}: this run ({lease.worker}) was not heard of and its trials were given to others"
    )


def end(session: Session, token: int, kind: EventKind) -> None:
    """Ends a lease: its running trials are free, and what happened to each is noted; once, whoever else ends it too."""
    if session.scalar(delete(LeaseRow).where(LeaseRow.id == token).returning(LeaseRow.id)) is None:
        return
    held = TrialRow.lease == token, TrialRow.state == "running"
    study_id = select(ArmRow.study_id).where(ArmRow.id == TrialRow.arm_id).scalar_subquery()
    noted = select(study_id, TrialRow.id, TrialRow.lease, literal(kind), literal({}, EventRow.detail.type)).where(*held)
    session.execute(insert(EventRow).from_select(["study_id", "trial_id", "lease", "kind", "detail"], noted))
    session.execute(update(TrialRow).where(*held).values(lease=null()))


def bury(session: Session, lease: Lease, watch: Watch, now: float) -> None:
    """Ends the leases of the study's other runs that are dead. Raises LeaseLost if this run's has ended."""
    watch.look()
    rows = leases(session, lease.study_id)
    if lease.token not in {row.id for row in rows}:
        raise _lost(lease)
    for row in rows:
        if row.id != lease.token and (not _process(row).alive() or watch.silent(row, now)):
            end(session, row.id, "lost")


def alive(rows: Iterable[LeaseRow], now: float, times: Times = USUAL) -> bool:
    """Whether one of the runs is: its process is here, or it beat lately elsewhere; `now`: the database's clock."""
    processes = [(_process(row), row.beat) for row in rows]
    return any(p.alive() if p.here else abs(now - beat) <= times.lease for p, beat in processes)


def under_way(rows: Iterable[LeaseRow], now: float) -> dict[int, bool]:
    """Token → whether it is this process's, of the leases whose run is alive; `now`: the database's clock."""
    return {row.id: _process(row) == this_process() for row in rows if alive([row], now)}


def _process(row: LeaseRow) -> Process:
    return Process(row.host, row.machine, row.pid, row.started)
