"""mlflow:URI, for MLflow's own page: an experiment a study, a run a trial, nested in the run of its arm."""

from __future__ import annotations

import fcntl
import logging
import math
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.utils.uri import get_uri_scheme
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError

from hpo.failures import BadInput
from hpo.loggers.logger import Key, Logged
from hpo.storage.address import masked
from hpo.storage.records import ArmRecord
from hpo.trial import Trial, Values

ENDED = {"complete": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""A study does not wait for its logger: MLflow's own are minutes."""

SOON = 10
"""Seconds to wait for the database of an address."""

PAGE = 1000


class MLflow:
    """Runs by the tags `hpo.created`, `hpo.arm` and, of a trial, `hpo.trial`."""

    def __init__(self, where: str) -> None:
        self._address, self._uri = masked(f"mlflow:{where}"), where
        self._arms: dict[str, str] = {}
        self._half: dict[Key, str] = {}

    def begin(self, study: Logged) -> Collection[Key]:
        self._study = study
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # what it says of its retries is said when they failed
        try:
            with _reached(self._uri):
                self._client = MlflowClient(tracking_uri=self._uri)
                self._experiment = self._made(study.name)
            return self._known()
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            raise BadInput(f"{self._address}: cannot be used ({_said(error)}): give another address") from error

    def _made(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id  # another run of the study was faster

    def _known(self) -> set[Key]:
        known: set[Key] = set()
        for run in self._runs():
            tags = run.data.tags
            if tags.get("hpo.created") != self._study.created:
                raise BadInput(
                    f"{self._address}: experiment {self._study.name!r} has runs that are not this study's: "
                    "give another address, or rename one of the two"
                )
            if "hpo.trial" not in tags:
                self._arms[tags["hpo.arm"]] = run.info.run_id
            elif run.info.status in ENDED.values():
                known.add((tags["hpo.arm"], int(tags["hpo.trial"])))
            else:
                self._half[tags["hpo.arm"], int(tags["hpo.trial"])] = run.info.run_id
        return known

    def _runs(self) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def log(self, arm: ArmRecord, trial: Trial, closed: datetime) -> None:
        outcome = trial.outcome
        assert outcome is not None  # closed
        half = self._half.pop((arm.label, trial.number), None)
        if half is not None:  # a run that was killed while it wrote it
            self._client.delete_run(half)
        end = int(1000 * closed.timestamp())
        parent = self._arm(arm, end)
        losses = {"validation_loss": outcome.validation_loss, "test_loss": outcome.test_loss}
        figures = {
            **losses,
            "test_accuracy": outcome.test_accuracy,
            "seconds": outcome.cost.seconds,
            "gradient_evaluations": outcome.cost.gradient_evaluations,
            **{f"report.{name}": figure for name, figure in outcome.report.items()},
        }
        curve = [
            metric
            for step, training, validation in outcome.curve.tolist()
            for metric in _metrics({"curve.training": training, "curve.validation": validation}, end, int(step))
        ]
        run = self._run(
            f"{arm.label} {trial.number}",
            end - int(1000 * outcome.cost.seconds),
            {"hpo.arm": arm.label, "hpo.trial": str(trial.number), "mlflow.parentRunId": parent},
        )
        if outcome.failure:
            self._client.set_tag(run, "hpo.failure", outcome.failure)
        self._client.log_batch(run, [*_metrics(figures, end, 0), *curve], _params(trial.proposal.values))
        self._client.log_batch(parent, _metrics(losses, end, trial.number))
        self._client.set_terminated(run, ENDED[outcome.state], end)

    def _arm(self, arm: ArmRecord, start: int) -> str:
        """The run of an arm, whose metrics are its trials'."""
        if arm.label not in self._arms:
            named = f"attributes.run_name = '{arm.label}'"  # another run of the study may have made it by now
            for found in self._client.search_runs([self._experiment], named):
                self._arms[arm.label] = found.info.run_id
                return found.info.run_id
            self._arms[arm.label] = run = self._run(arm.label, start, {"hpo.arm": arm.label})
            about = {"method": arm.title, "solver": arm.solver, "per": arm.per or "", "seed": arm.seed, **arm.settings}
            self._client.log_batch(run, params=[Param(name, str(value)) for name, value in about.items()])
        return self._arms[arm.label]

    def _run(self, name: str, start: int, tags: dict[str, Any]) -> str:
        tags = {"hpo.created": self._study.created, **tags}
        return self._client.create_run(self._experiment, start, tags, name).info.run_id

    def end(self) -> None:
        for run in self._arms.values():
            self._client.set_terminated(run)


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    """A database is connected to first: MLflow itself would try for minutes. In a file's folder only one run at a time
    is past this line, as MLflow's making of the tables stands no company.
    """
    with ExitStack() as stack:
        if get_uri_scheme(uri) in DATABASE_ENGINES:
            url = make_url(uri)
            if url.get_backend_name() == "sqlite" and url.database:
                folder = Path(url.database).parent
                folder.mkdir(parents=True, exist_ok=True)
                place = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, place)
                fcntl.flock(place, fcntl.LOCK_EX)  # until it is closed
            limit = {"connect_timeout": SOON} if url.get_backend_name() in ("postgresql", "mysql") else {}
            engine = create_engine(url, connect_args=limit)
            stack.callback(engine.dispose)
            inspect(engine).get_table_names()
        yield


def _metrics(figures: dict[str, Any], at: int, step: int) -> list[Metric]:
    return [
        Metric(name, float(figure), at, step)
        for name, figure in figures.items()
        if figure is not None and math.isfinite(figure)
    ]


def _params(values: Values) -> list[Param]:
    """Single values as they are, vectors by their lowest, median and highest."""
    found: dict[str, float] = {}
    for name, vector in values.items():
        ends = {"lowest": np.min, "median": np.median, "highest": np.max}
        found |= {name: vector[0]} if len(vector) == 1 else {f"{name}.{e}": of(vector) for e, of in ends.items()}
    return [Param(name, f"{value:.6g}") for name, value in found.items()]


def _said(error: Exception) -> str:
    """The beginning, which says what is wrong."""
    return masked(shorten(" ".join(str(error).split()).split(". ")[0], 200, placeholder=" …"))
