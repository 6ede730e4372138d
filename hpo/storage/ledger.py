"""The ledger: what a study did, remembered trial by trial. Every verb is one transaction.

    with Ledger.open("sqlite:///hpo.db") as ledger:
        ledger.begin(study, versions)                     # stored, or continued
        with ledger.attend(study.name, slots=1) as lease:           # this run's token; it beats until the end
            found = ledger.take_up(lease, ["drmad/0"])            # what a dead run left running
            claim = ledger.claim(lease, "drmad/0", proposal, ask_seconds, terms)    # or None: the arm has moved on
            ledger.close_trial(claim, outcome)            # exactly once
        ledger.finish(study.name, "drmad/0", "complete")

An unknown study or arm raises BadInput with the nearest name; the database itself raises BadStorage. While it cannot be
reached a verb tries again for `times.patience` seconds: none does harm when it is done twice.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete

from hpo.failures import BadStorage, BadStudy
from hpo.space import Space
from hpo.spec import Study
from hpo.storage import branching, checkpoints, claims, continuation, leases, reading
from hpo.storage.arrays import Named
from hpo.storage.beginning import begin
from hpo.storage.claims import Claim, Found, Terms
from hpo.storage.engine import Database
from hpo.storage.heartbeat import beating
from hpo.storage.leases import USUAL, Lease, Times, Watch
from hpo.storage.patience import patient
from hpo.storage.records import (
    ArmRecord,
    RunRecord,
    Standing,
    StudyRecord,
    StudySummary,
    TrialRecord,
    described,
    row_described,
)
from hpo.storage.tables import ArmState, Broken, StudyRow, now
from hpo.task import InputRow
from hpo.trial import Outcome, Proposal, Trial

log = logging.getLogger(__name__)


class Ledger:
    """Studies, arms and trials in one database."""

    def __init__(self, database: Database, url: str, times: Times = USUAL) -> None:
        self._database = database
        self.url = url
        self._watch = Watch(times)
        self.times = times

    @classmethod
    def open(cls, url: str, create: bool = True, times: Times = USUAL) -> Self:
        """The ledger at `url`; `create=False` only reads: it makes no file and no tables. Raises BadStorage."""
        return cls(Database.open(url, create), url, times)

    def close(self) -> None:
        """Gives the connections back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @patient
    def begin(self, study: Study, versions: Mapping[str, str], data_dir: Path | None = None) -> None:
        """Stores a new study with its arms, or continues the one of that name.

        Raises BadStudy if it differs in more than budget, resources or added seeds, or holds a number that JSON cannot.
        A changed budget opens finished arms again.
        """
        continuation.check_finite(study)
        with self._database.write() as session:
            self._database.alone(session)
            begin(session, study, versions, data_dir)

    def branch(self, parent: str, study: Study, versions: Mapping[str, str]) -> None:
        """Stores a new study that begins with the trials of those arms of another one that it did not change.

        Does nothing if that was done before. Raises BadStudy if there is another study of its name, or as `begin`.
        """
        continuation.check_finite(study)
        with self._database.write() as session:
            self._database.alone(session)
            old = reading.study_row(session, parent)
            if study.name in reading.names(session):
                if reading.study_row(session, study.name).parent == parent:
                    return
                raise BadStudy(f"study {study.name!r} exists: branch under a name that is new")
            new = begin(session, study, versions, None)
            new.parent, new.data_dir = parent, old.data_dir
            branching.copy(session, old, new, branching.same_arms(reading.spec(old), study))

    def adopt(self, study: str, arm: str, trials: Sequence[Trial], origin: str) -> None:
        """Finished trials from elsewhere as the next ones of an arm, told to its strategy, charged nothing, never best.

        Raises BadStudy if the arm has had some from there before.
        """
        with self._database.write() as session:
            branching.adopt(session, reading.arm_row(session, study, arm), trials, origin)

    @patient
    def describe(
        self, study: str, arm: str, space: Space, settings: Mapping[str, Any], inputs: InputRow | None = None
    ) -> None:
        """Stores what became known of an arm: its space, resolved; its settings (plain JSON values); its inputs."""
        with self._database.write() as session:
            row = reading.arm_row(session, study, arm)
            row.space, row.settings, row.inputs = described(space), dict(settings), row_described(inputs)

    @contextmanager
    def attend(self, study: str, slots: int, worker: str | None = None) -> Iterator[Lease]:
        """A lease for the block, which beats in a thread of its own; at its end the trials it still has are free.

        `worker`: a name under which a run comes back after its death to find its trials free at once, on whatever
        machine; if None, the machine's name and the process's number. Raises BadStorage if a live process here has it.
        """
        lease = self._attend(study, slots, worker)
        try:
            with beating(lambda: self._beat(lease), self.times.beat):
                yield lease
        except BaseException:
            try:
                self._end(lease)
            except BadStorage as error:  # the lease ends by itself; what went wrong is said, not this
                log.warning("the lease of %s is left behind: %s", lease.worker, error)
            raise
        self._retire(lease)

    @patient
    def _attend(self, study: str, slots: int, worker: str | None) -> Lease:
        with self._database.write() as session:
            self._database.alone(session)
            row = reading.study_row(session, study)
            return leases.attend(session, row, worker, slots, self._database.clock(session))

    @patient
    def _retire(self, lease: Lease) -> None:
        self._end(lease)

    def _end(self, lease: Lease) -> None:
        with self._database.write() as session:
            leases.end(session, lease.token, "interrupted")

    def _beat(self, lease: Lease) -> bool:
        """And looks who else does, however long this run's trainings are."""
        with self._database.write() as session:
            now = self._database.clock(session)
            if not leases.beat(session, lease, now):
                return False
            leases.bury(session, lease, self._watch, now)
            return True

    @patient
    def slots(self, lease: Lease) -> int:
        """Of all runs of the study that hold a lease; those found dead lose theirs first."""
        with self._database.write() as session:
            leases.bury(session, lease, self._watch, self._database.clock(session))
            return sum(row.slots for row in leases.leases(session, lease.study_id))

    @patient
    def claim(self, lease: Lease, arm: str, proposal: Proposal, ask_seconds: float, terms: Terms) -> Claim | None:
        """Stores a proposal as a running trial of this run, if the arm still stands where it was proposed and its
        budget has room; else None. Raises LeaseLost.
        """
        with self._database.write() as session:
            return claims.claim(
                session, lease, reading.arm_row(session, lease.study, arm), proposal, ask_seconds, terms
            )

    @patient
    def take_up(self, lease: Lease, arms: Collection[str], hand: Collection[int] = ()) -> Found | None:
        """A running trial of these arms that no run has, now this run's; None if there is none. Raises LeaseLost.

        `hand`: the rows of the trials that this run works on. One that it has and does not work on was taken up when
        nobody knew whether that came through.
        """
        with self._database.write() as session:
            return claims.take_up(session, lease, arms, hand)

    @patient
    def close_trial(self, claim: Claim, outcome: Outcome) -> bool:
        """Stores what became of a trial, exactly once; False, and nothing is stored, if this run has it no more."""
        with self._database.write() as session:
            return claims.close(session, claim, outcome)

    @patient
    def broken(self, claim: Claim, attempt: int, kind: Broken) -> int | None:
        """Notes that the worker died, or had no memory, in this attempt at a trial; returns how often since it got on.

        None, and nothing is noted, if this run has the trial no more.
        """
        with self._database.write() as session:
            return claims.broken(session, claim, attempt, kind)

    @patient
    def save(self, claim: Claim, fresh: Named, stays: Collection[str] = ()) -> bool:
        """Replaces the checkpoint of a trial; False, and nothing is stored, if this run has it no more."""
        with self._database.write() as session:
            return checkpoints.save(session, claim, fresh, stays)

    @patient
    def saved(self, claim: Claim) -> dict[str, NDArray[Any]] | None:
        """The checkpoint of a trial, None if it has none."""
        with self._database.read() as session:
            return checkpoints.load(session, claim)

    @patient
    def finish(self, study: str, arm: str, state: ArmState) -> None:
        """Says how an arm ended."""
        with self._database.write() as session:
            row = reading.arm_row(session, study, arm)
            row.state = state
            reading.study_row(session, study).updated = now()

    def delete(self, study: str) -> None:
        """Forgets a study and everything of it, damaged or not. Raises BadStorage while it is being run."""
        with self._database.write() as session:
            self._database.alone(session)
            number = reading.study_id(session, study)
            if leases.alive(leases.leases(session, number), self._database.clock(session)):
                raise BadStorage(f"study {study!r} is being run: stop it first")
            session.execute(delete(StudyRow).where(StudyRow.id == number))

    @patient
    def standing(self, study: str) -> dict[str, Standing]:
        """Where every arm stands, by label, in the study's order."""
        with self._database.read() as session:
            return reading.standing(session, study)

    @patient
    def trials(self, study: str, arm: str, *, since: int = 0, among: Sequence[int] = ()) -> list[Trial]:
        """The trials of an arm by number, running ones without an outcome; arrays bit by bit, weights left out.

        Only those from number `since` on, and those `among`.
        """
        with self._database.read() as session:
            return reading.trials(session, reading.arm_row(session, study, arm).id, since=since, among=among)

    def weights(self, study: str, arm: str, number: int) -> dict[str, NDArray[np.generic]] | None:
        """The weights of a trial by name, if it is the one whose weights the arm keeps."""
        with self._database.read() as session:
            return reading.weights(session, reading.arm_row(session, study, arm).id, number)

    def studies(self) -> list[StudySummary]:
        """All studies, oldest first."""
        with self._database.read() as session:
            return reading.studies(session, self._database.clock(session))

    def study(self, name: str) -> StudyRecord:
        """One study; raises BadStorage if it was stored in a form this hpo does not read."""
        with self._database.read() as session:
            return reading.study(session, name, self._database.clock(session))

    def arms(self, study: str) -> list[ArmRecord]:
        """The arms of a study in its order."""
        with self._database.read() as session:
            return reading.arms(session, study)

    def figures(self, study: str) -> dict[str, list[TrialRecord]]:
        """Every arm's trials by number, without their arrays."""
        with self._database.read() as session:
            return reading.figures(session, study)

    def under_way(self, study: str) -> dict[int, bool]:
        """The leases of runs that are alive, as far as can be seen from here, oldest first; True: of this process."""
        with self._database.read() as session:
            rows = leases.leases(session, reading.study_id(session, study))
            return leases.under_way(rows, self._database.clock(session))

    def attendance(self, study: str) -> dict[int, RunRecord]:
        """The runs that have worked on a study by the number of their lease, which their trials have."""
        with self._database.read() as session:
            return reading.attendance(session, study)
