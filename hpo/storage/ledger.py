"""The ledger: what a study did, remembered trial by trial. Every verb is one transaction.

    with Ledger.open("sqlite:///hpo.db") as ledger:
        ledger.begin(study, versions)                     # stored, or continued
        ledger.hold(study.name)                           # this process runs it, no other
        ledger.release(study.name)                        # what a killed process left open
        ledger.open_trial(study.name, "drmad/0", proposal, ask_seconds)
        ledger.close_trial(study.name, "drmad/0", proposal.number, outcome)     # exactly once
        ledger.finish(study.name, "drmad/0", "complete")
        ledger.let_go(study.name)

An unknown study or arm raises BadInput with the nearest name; the database itself raises BadStorage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select, update

from hpo.failures import BadStorage
from hpo.space import Space
from hpo.spec import Arm, Study
from hpo.storage import arrays, continuation, reading
from hpo.storage.engine import Database
from hpo.storage.holder import Holder, this_process
from hpo.storage.records import ArmRecord, StudyRecord, StudySummary, TrialRecord, described
from hpo.storage.tables import ArmRow, ArmState, ArrayRow, StudyRow, TrialRow, now
from hpo.trial import Cost, Outcome, Proposal, Trial


class Ledger:
    """Studies, arms and trials in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str, create: bool = True) -> Self:
        """The ledger at `url`; `create=False` only reads: it makes no file and no tables. Raises BadStorage."""
        return cls(Database.open(url, create))

    def close(self) -> None:
        """Gives the connections back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def begin(self, study: Study, versions: Mapping[str, str]) -> None:
        """Stores a new study with its arms, or continues the one of that name.

        Raises BadStudy if it differs in more than budget, resources or added seeds, or holds a number that JSON cannot;
        BadStorage if another process runs it.
        A changed budget opens finished arms again.
        """
        continuation.check_finite(study)
        with self._database.write() as session:
            self._database.alone(session)
            row = session.scalar(select(StudyRow).where(StudyRow.name == study.name))
            if row is None:
                row = StudyRow(name=study.name)
                session.add(row)
            else:
                _refuse_if_held(row)
                stored = reading.spec(row)
                continuation.check(stored, study)
                if stored.budget != study.budget:
                    session.execute(update(ArmRow).where(ArmRow.study_id == row.id).values(state="open"))
            row.spec, row.digest, row.versions, row.updated = study.canonical(), study.digest(), dict(versions), now()
            session.flush()
            known = {arm.label: arm for arm in session.scalars(select(ArmRow).where(ArmRow.study_id == row.id))}
            for position, arm in enumerate(study.arms()):
                if arm.label not in known:
                    session.add(_new_arm(row.id, position, arm))
                else:
                    known[arm.label].position = position

    def describe(self, study: str, arm: str, space: Space, settings: Mapping[str, Any]) -> None:
        """Stores what became known of an arm: its resolved space and its method's settings (plain JSON values)."""
        with self._database.write() as session:
            row = reading.arm_row(session, study, arm)
            row.space, row.settings = described(space), dict(settings)

    def hold(self, study: str) -> None:
        """Makes this process the one that runs the study; takes over from a dead one, else raises BadStorage."""
        with self._database.write() as session:
            self._database.alone(session)
            row = reading.study_row(session, study)
            _refuse_if_held(row)
            row.holder = this_process()._asdict()

    def let_go(self, study: str) -> None:
        """Ends `hold`; a holder other than this process stays."""
        with self._database.write() as session:
            self._database.alone(session)
            row = reading.study_row(session, study)
            if row.holder is not None and Holder.of(row.holder) == this_process():
                row.holder = None

    def finish(self, study: str, arm: str, state: ArmState) -> None:
        """Says how an arm ended."""
        with self._database.write() as session:
            row = reading.arm_row(session, study, arm)
            row.state = state
            reading.study_row(session, study).updated = now()

    def open_trial(self, study: str, arm: str, proposal: Proposal, ask_seconds: float) -> None:
        """Stores a proposal as a running trial. Raises BadStorage if the arm has a trial of that number."""
        with self._database.write() as session:
            arm_id = reading.arm_row(session, study, arm).id
            if reading.trial_id(session, arm_id, proposal.number) is not None:
                raise BadStorage(f"trial {proposal.number} of {study} {arm} exists: another process runs this study")
            row = TrialRow(
                arm_id=arm_id,
                number=proposal.number,
                state="running",
                derivative=proposal.derivative,
                summary=arrays.summary(proposal),
                ask_seconds=float(ask_seconds),
            )
            session.add(row)
            session.flush()
            session.add_all(arrays.pack(row.id, arrays.prefixed("values", proposal.values)))

    def close_trial(self, study: str, arm: str, number: int, outcome: Outcome) -> None:
        """Stores what became of a running trial, exactly once; raises BadStorage if it is not running.

        An arm keeps the weights of its best trial alone: weights that come with another one, which was under way when
        a better one ended, are not stored.
        """
        with self._database.write() as session:
            arm_id = reading.arm_row(session, study, arm).id
            closing = update(TrialRow).where(
                TrialRow.arm_id == arm_id, TrialRow.number == number, TrialRow.state == "running"
            )
            trial_id = session.scalar(closing.values(_figures(outcome)).returning(TrialRow.id))
            if trial_id is None:
                raise BadStorage(
                    f"trial {number} of {study} {arm} is not open: it was closed before, or another process took over"
                )
            kept = arrays.of_outcome(outcome)
            if outcome.weights is not None and trial_id == reading.best_trial_id(session, arm_id):
                of_arm = select(TrialRow.id).where(TrialRow.arm_id == arm_id)
                session.execute(delete(ArrayRow).where(ArrayRow.trial_id.in_(of_arm), reading.IS_WEIGHT))
                kept |= arrays.prefixed("weights", outcome.weights)
            session.add_all(arrays.pack(trial_id, kept))

    def release(self, study: str, arm: str | None = None) -> int:
        """Deletes the running trials of an arm, or of all arms, so that they are asked for again; returns how many."""
        with self._database.write() as session:
            chosen = [reading.arm_row(session, study, arm)] if arm else reading.arm_rows(session, study)
            running = TrialRow.arm_id.in_([a.id for a in chosen]), TrialRow.state == "running"
            return len(session.scalars(delete(TrialRow).where(*running).returning(TrialRow.id)).all())

    def trials(self, study: str, arm: str) -> list[Trial]:
        """The trials of an arm by number, running ones without an outcome; arrays bit by bit, weights left out."""
        with self._database.read() as session:
            return reading.trials(session, reading.arm_row(session, study, arm).id)

    def weights(self, study: str, arm: str, number: int) -> dict[str, NDArray[np.generic]] | None:
        """The weights of a trial by name, if it is the one whose weights the arm keeps."""
        with self._database.read() as session:
            return reading.weights(session, reading.arm_row(session, study, arm).id, number)

    def spent(self, study: str, arm: str) -> Cost:
        """What the closed trials of an arm cost; the seconds include those the strategy took to ask."""
        with self._database.read() as session:
            return reading.spent(session, reading.arm_row(session, study, arm).id)

    def studies(self) -> list[StudySummary]:
        """All studies, oldest first."""
        with self._database.read() as session:
            return reading.studies(session)

    def study(self, name: str) -> StudyRecord:
        """One study; raises BadStorage if it was stored in a form this hpo does not read."""
        with self._database.read() as session:
            return reading.study(session, name)

    def arms(self, study: str) -> list[ArmRecord]:
        """The arms of a study in its order."""
        with self._database.read() as session:
            return reading.arms(session, study)

    def figures(self, study: str) -> dict[str, list[TrialRecord]]:
        """Every arm's trials by number, without their arrays."""
        with self._database.read() as session:
            return reading.figures(session, study)


def _refuse_if_held(row: StudyRow) -> None:
    holder = None if row.holder is None else Holder.of(row.holder)
    if holder is None or holder == this_process() or not holder.alive():
        return
    remedy = "wait for it or stop it" if holder.here else f"stop it there; if that machine is gone: {_forget(row.name)}"
    raise BadStorage(f"study {row.name!r} is being run by {holder}: {remedy}")


def _forget(study: str) -> str:
    return f"UPDATE hpo_study SET holder = NULL WHERE name = '{study}'"


def _new_arm(study_id: int, position: int, arm: Arm) -> ArmRow:
    return ArmRow(
        study_id=study_id,
        position=position,
        label=arm.label,
        title=arm.title,
        method=arm.method.name,
        solver=arm.solver.name,
        per=arm.method.per,
        seed=arm.seed,
        settings={},
        space=[],
        state="open",
    )


def _figures(outcome: Outcome) -> dict[str, Any]:
    """The columns of a closed trial."""
    return {
        "state": outcome.state,
        "validation_loss": _or_null(outcome.validation_loss),
        "test_loss": _or_null(outcome.test_loss),
        "test_accuracy": None if outcome.test_accuracy is None else _or_null(outcome.test_accuracy),
        "trainings": int(outcome.cost.trainings),
        "gradient_evaluations": float(outcome.cost.gradient_evaluations),
        "seconds": float(outcome.cost.seconds),
        "failure": outcome.failure,
        "report": {name: float(figure) if math.isfinite(figure) else None for name, figure in outcome.report.items()},
        "closed": now(),
    }


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
