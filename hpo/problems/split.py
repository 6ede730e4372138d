"""Training, validation and test rows: disjoint, a function of the seed, prepared by what the training rows say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadData
from hpo.problems.dataset import Dataset, Part, chosen

if TYPE_CHECKING:
    from hpo.spec import Rows, Split

Indices = NDArray[np.intp]


class Cut(NamedTuple):
    """Row numbers of the three parts; `test` is empty where the data set brings its own test part."""

    train: Indices
    validation: Indices
    test: Indices


class Division(NamedTuple):
    """The three parts as arrays: inputs float32 `[N, …]`; targets int64 `[N]` or float32 `[N, D]`.

    `columns`: the names of the inputs' columns, if they have names.
    """

    train: Part
    validation: Part
    test: Part
    columns: tuple[str, ...] | None = None


def rows(name: str, total: int, split: Split, own_test: bool, seed: int) -> Cut:
    """Which of `total` rows serve for what: a permutation drawn from the seed, cut in three.

    Without a test part of its own the rest is test, else the rest is unused. A fraction of the rows is rounded down.
    Raises BadData: more rows asked than there are, a fraction of less than one row, nothing left for the test.
    """
    train = _count(name, "train", split.train, total)
    validation = _count(name, "validation", split.validation, total)
    has = f"{name} has {total}" + (" in its training part" if own_test else "")
    asked = f"problem.split: train {split.train} and validation {split.validation}"
    if train + validation > total:
        raise BadData(f"{asked} ask for {train + validation} rows, {has}: ask for fewer")
    if not own_test and train + validation == total:
        raise BadData(f"{asked} leave nothing for the test, {has} and no test part of its own: ask for fewer")
    order = np.random.default_rng((*b"split", seed)).permutation(total)
    rest = order[total:] if own_test else order[train + validation :]
    return Cut(order[:train], order[train : train + validation], rest)


def _count(name: str, part: str, asked: Rows, total: int) -> int:
    """A number of rows from a number or a fraction; the tolerance makes 0.29 of 100 rows 29, not 28."""
    count = asked if isinstance(asked, int) else int(asked * total + 1e-9)
    if count < 1:
        raise BadData(f"problem.split.{part}: {asked} of the {total} rows of {name} is less than one row: ask for more")
    return count


def divide(data: Dataset, split: Split, seed: int) -> Division:
    """The three parts, prepared by the training rows alone.

    Regression targets are standardised, (y − mean) / deviation of the training part: losses are in those units, so 1
    is about what predicting the mean gives.
    Raises BadData where `rows` does, and where the training part has one class or one value only.
    """
    cut = rows(data.name, len(data.rows.targets), split, data.test is not None, seed)
    train, validation, rest = (Part(chosen(data.rows.inputs, i), data.rows.targets[i]) for i in cut)
    inputs = data.prepare(train.inputs)
    targets = _measured(data, train.targets)
    parts = [train, validation, rest if data.test is None else data.test]
    train, validation, test = (Part(np.ascontiguousarray(inputs(p.inputs)), targets(p.targets)) for p in parts)
    return Division(train, validation, test, inputs.columns)


def _measured(data: Dataset, training: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Class numbers as they are; quantities in deviations of the training part from its mean, column by column."""
    if data.task == "classification":
        if np.unique(training).size < 2:
            raise BadData(
                f"problem.split.train: all {len(training)} training rows of {data.name} are of class "
                f"{data.classes[training[0]]!r}: ask for more rows"
            )
        return lambda targets: targets
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    if not (deviation > 0).all():
        raise BadData(
            f"problem.split.train: all {len(training)} training rows of {data.name} have the same target "
            f"{mean[np.argmin(deviation)]:g}: ask for more rows, or give another target"
        )
    return lambda targets: ((targets - mean) / deviation).astype(np.float32)
