"""tensorboard:DIR, shown by `tensorboard --logdir DIR`: a run an arm, DIR/STUDY/ARM, whose steps are its trials."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import (
    HistogramProto,  # pyright: ignore[reportAttributeAccessIssue]
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from hpo.failures import BadInput
from hpo.loggers.logger import Key, Logged
from hpo.storage.records import ArmRecord
from hpo.trial import Array, Trial

ALWAYS = "cost/gradient_evaluations"
"""Every trial has this figure, whatever became of it."""

CREATED = "created"
"""Tag of the moment the study was made: seconds since 1970."""

BINS = 30


class TensorBoard:
    """Losses, cost, report and single values as scalars, vectors as histograms for each weight they act on."""

    def __init__(self, where: str) -> None:
        self._folder = Path(where)
        self._writers: dict[str, EventFileWriter] = {}

    def begin(self, study: Logged) -> Collection[Key]:
        self._study, self._created = study, datetime.fromisoformat(study.created).timestamp()
        try:
            for arm in study.arms:
                self._run(arm.label).mkdir(parents=True, exist_ok=True)
            return {(arm.label, number) for arm in study.arms for number in self._known(arm.label)}
        except OSError as error:
            raise BadInput(
                f"tensorboard:{self._folder}: cannot be written ({error.strerror}): give another folder"
            ) from error

    def _run(self, label: str) -> Path:
        """A folder for each part of the label: no two labels share one, and none leads out of the study's."""
        return self._folder.joinpath(self._study.name, *(_folder(part) for part in label.split("/")))

    def _known(self, label: str) -> Iterator[int]:
        """The steps of all event files of a run."""
        for file in sorted(self._run(label).glob("events.out.tfevents.*")):
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    if value.tag == ALWAYS:
                        yield event.step
                    if value.tag == CREATED and value.tensor.double_val[0] != self._created:
                        raise BadInput(
                            f"tensorboard:{self._folder}: has the trials of another study {self._study.name!r}: "
                            "give another folder"
                        )

    def log(self, arm: ArmRecord, trial: Trial, closed: datetime) -> None:
        outcome = trial.outcome
        assert outcome is not None  # closed
        summary = Summary()
        figures = {
            "loss/validation": outcome.validation_loss,
            "loss/test": outcome.test_loss,
            "accuracy/test": outcome.test_accuracy,
            ALWAYS: outcome.cost.gradient_evaluations,
            "cost/seconds": outcome.cost.seconds,
            **{f"report/{name}": figure for name, figure in outcome.report.items()},
        }
        for tag, figure in figures.items():
            if figure is not None:
                summary.value.add(tag=tag, simple_value=figure)
        groups = {group["name"]: group for group in arm.space}
        for name, values in trial.proposal.values.items():
            _add(summary, name, values, groups.get(name, {}), "values")
        for name, values in (outcome.hypergradient or {}).items():
            summary.value.add(tag=f"hypergradient/{name}", simple_value=float(np.linalg.norm(values)))
        self._write(arm, Event(wall_time=closed.timestamp(), step=trial.number, summary=summary))

    def _write(self, arm: ArmRecord, event: Event) -> None:
        if arm.label not in self._writers:
            self._writers[arm.label] = EventFileWriter(str(self._run(arm.label)))
            about: dict[str, Any] = {"method": arm.title, "solver": arm.solver, "per": arm.per or "", "seed": arm.seed}
            first = Summary()
            value = first.value.add(tag=CREATED)
            value.tensor.dtype = 2  # DT_DOUBLE
            value.tensor.double_val.append(self._created)
            for made in (first, hparams_pb(about, trial_id=f"{self._study.name}/{arm.label}")):
                self._writers[arm.label].add_event(Event(wall_time=event.wall_time, summary=made))
        self._writers[arm.label].add_event(event)
        self._writers[arm.label].flush()

    def end(self) -> None:
        for writer in self._writers.values():
            writer.close()


def _add(summary: Summary, name: str, values: Array, group: dict[str, Any], kind: str) -> None:
    """A single value as a scalar, a vector as histograms, on the scale that is searched in."""
    if len(values) == 1:
        summary.value.add(tag=f"{kind}/{name}", simple_value=float(values[0]))
        return
    scaled = np.log10(values) if group.get("log") else values
    tag = f"{kind}/log10 {name}" if group.get("log") else f"{kind}/{name}"
    summary.value.add(tag=tag, histo=_histogram(scaled))
    pieces = group.get("pieces", ())
    for piece in pieces if len(pieces) > 1 else ():
        part = scaled[piece["start"] : piece["stop"]]
        if len(part) > 1:
            summary.value.add(tag=f"{tag}/{piece['weight']}", histo=_histogram(part))
        else:
            summary.value.add(tag=f"{kind}/{name}/{piece['weight']}", simple_value=float(values[piece["start"]]))


def _histogram(values: Array) -> HistogramProto:
    counts, edges = np.histogram(values, BINS)
    return HistogramProto(
        min=float(values.min()), max=float(values.max()), num=len(values), sum=float(values.sum()),
        sum_squares=float((values**2).sum()), bucket_limit=edges[1:].tolist(), bucket=counts.tolist(),
    )  # fmt: skip


def _folder(part: str) -> str:
    return quote(part, safe=" ") if part.strip(".") else "%2E" * len(part) or "%"
