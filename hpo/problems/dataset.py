"""What was read, and what it means.

A source gives `Records`: rows and targets as they lie in the file. `understood` settles the task, numbers the classes
and refuses what cannot be learnt from. The inputs stay raw in a `Dataset`, because how they become numbers may depend
on the training rows: `prepare(training_inputs)` is the map from raw inputs to float32 arrays, fitted on those alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadData
from hpo.problems.targets import Task, Wish, infer, labels, normal, quantities

if TYPE_CHECKING:
    import pandas as pd

Inputs: TypeAlias = "NDArray[Any] | pd.DataFrame"
"""Raw rows: an array `[N, …]`, or a table with named columns."""

Prepare: TypeAlias = "Callable[[Inputs], Prepared]"
"""Raw training inputs → how any raw inputs become numbers."""

Folders = tuple[Path, ...]
"""Where relative paths are looked for, in this order."""


class Prepared(NamedTuple):
    """The map from raw inputs to float32 arrays `[N, F]` or `[N, C, H, W]`; the names of its F columns, if they have
    names (`age`; one value of a category: `job=clerk`).
    """

    numbers: Callable[[Inputs], NDArray[np.float32]]
    columns: tuple[str, ...] | None = None

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        return self.numbers(inputs)


class Part(NamedTuple):
    """Raw inputs `[N, …]` and their targets `[N]` or `[N, D]`."""

    inputs: Inputs
    targets: NDArray[Any]


class Records(NamedTuple):
    """What a source reads. `test` is the data set's own test part; `names` are the names of the labels 0, 1, …."""

    name: str
    rows: Part
    prepare: Prepare
    test: Part | None = None
    names: tuple[str, ...] = ()


class Source(Protocol):
    """A data set known by name; made without arguments."""

    def read(self, folders: Folders) -> Records:
        """Raises BadData where a file is missing or malformed."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Rows to split, perhaps a test part of their own, and their meaning.

    Targets are class indices `[N]` int64 into `classes`, or numbers `[N, D]` float64 and no classes.
    """

    name: str
    rows: Part
    test: Part | None
    task: Task
    classes: tuple[str, ...]
    prepare: Prepare

    @property
    def outputs(self) -> int:
        """How many numbers a network must give per row: one per class, or one per target column."""
        return len(self.classes) or self.rows.targets.shape[1]


def understood(records: Records, task: Wish = "auto") -> Dataset:
    """Records with their task settled and their classes numbered, over the rows and the test part together.

    Raises BadData: no rows, inputs and targets of different lengths, targets that are missing, of the wrong type or
    shape, or all of one class.
    """
    name = records.name
    parts = [_checked(name, part) for part in (records.rows, records.test) if part is not None]
    counts = [len(part.targets) for part in parts]
    if len({part.targets.shape[1:] for part in parts}) > 1:
        shapes = " and ".join(str(part.targets.shape) for part in parts)
        raise BadData(
            f"{name}: targets of the training and test parts have shapes {shapes}: give both the same columns"
        )
    targets = np.concatenate([part.targets for part in parts])
    settled = infer(targets) if task == "auto" else task
    if settled == "classification":
        classes, numbers = labels(name, targets, records.names)
        present = np.unique(numbers[: counts[0]])
        if present.size < 2:
            raise BadData(
                f"{name}: all {counts[0]} rows are of class {classes[present[0]]!r}: "
                "classification needs two classes or more"
            )
    else:
        classes, numbers = (), quantities(name, targets)
    split = np.split(numbers, [counts[0]])
    parts = [Part(part.inputs, own) for part, own in zip(parts, split, strict=False)]
    return Dataset(name, parts[0], parts[1] if len(parts) > 1 else None, settled, classes, records.prepare)


def _checked(name: str, part: Part) -> Part:
    targets = normal(name, part.targets)
    if len(part.inputs) != len(targets) or not len(targets):
        raise BadData(
            f"{name}: {len(part.inputs)} rows of inputs and {len(targets)} targets: give as many of each, at least one"
        )
    return Part(part.inputs, targets)


def chosen(inputs: Inputs, rows: NDArray[np.intp]) -> Inputs:
    """The given rows of raw inputs, in that order."""
    return inputs[rows] if isinstance(inputs, np.ndarray) else inputs.iloc[rows]
