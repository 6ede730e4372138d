"""csv:FILE: one line a trial, for spreadsheets and data frames; several studies may share a file."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hpo.failures import BadInput
from hpo.loggers.logger import Key, Logged
from hpo.storage.records import ArmRecord
from hpo.trial import Trial

COLUMNS = (
    "study", "created", "arm", "method", "solver", "seed", "trial", "state", "closed", "validation_loss", "test_loss",
    "test_accuracy", "seconds", "gradient_evaluations", "failure",
)  # fmt: skip

SPREAD = {"lowest": np.min, "median": np.median, "highest": np.max}


class CSV:
    """Appends to the file, however many runs do; a line is there whole or not at all."""

    def __init__(self, where: str) -> None:
        self._path = Path(where)
        self._file: io.FileIO | None = None
        self._columns: list[str] = []

    def begin(self, study: Logged) -> Collection[Key]:
        names = dict.fromkeys(group["name"] for arm in study.arms for group in arm.space)
        self._columns = [*COLUMNS, *(f"{name}.{part}" for name in names for part in SPREAD)]
        self._study = study
        if self._path.exists() and not self._path.is_file():
            raise BadInput(f"csv:{self._path}: is not a file: give a file")
        try:
            self._file = io.FileIO(self._path, "a+")
            with self._alone():
                there = self._path.read_bytes()
                whole = there[: there.rfind(b"\n") + 1]  # a run that was killed may have left half a line
                known = self._known(whole.decode(errors="replace"), study) if whole else ()
                if len(whole) < len(there):
                    self._file.truncate(len(whole))
                if not whole:
                    self._write(dict(zip(self._columns, self._columns, strict=True)))
        except OSError as error:
            raise BadInput(f"csv:{self._path}: cannot be written ({error.strerror}): give another file") from error
        return known

    def _known(self, text: str, study: Logged) -> Collection[Key]:
        rows = csv.DictReader(io.StringIO(text))
        if list(rows.fieldnames or ()) != self._columns:
            raise BadInput(f"csv:{self._path}: has other columns than this study's trials: give another file")
        mine = [row for row in rows if row["study"] == study.name]
        if any(row["created"] != study.created for row in mine):
            raise BadInput(f"csv:{self._path}: has the trials of another study {study.name!r}: give another file")
        return {(row["arm"], int(row["trial"])) for row in mine}

    def log(self, arm: ArmRecord, trial: Trial, closed: datetime) -> None:
        outcome = trial.outcome
        assert outcome is not None  # closed
        about = (self._study.name, self._study.created, arm.label, arm.title, arm.solver, arm.seed, trial.number)
        figures = (
            outcome.state, closed.isoformat(timespec="seconds"), outcome.validation_loss, outcome.test_loss,
            outcome.test_accuracy, outcome.cost.seconds, outcome.cost.gradient_evaluations, outcome.failure,
        )  # fmt: skip
        spreads = {
            f"{name}.{part}": float(of(values))
            for name, values in trial.proposal.values.items()
            for part, of in SPREAD.items()
        }
        with self._alone():
            self._write(dict(zip(COLUMNS, (*about, *figures), strict=True)) | spreads)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other run writes meanwhile."""
        assert self._file is not None  # begin comes first
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _write(self, row: Mapping[str, Any]) -> None:
        assert self._file is not None  # begin comes first
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(row)
        line, at = text.getvalue().encode(), self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.truncate(at)
            raise

    def end(self) -> None:
        if self._file is not None:
            self._file.close()
