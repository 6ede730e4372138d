"""What the targets mean: the task, the classes and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadData

MOST_CLASSES = 20
"""Whole numbers with more distinct values than this are taken for a quantity, not for class labels."""

Task = Literal["classification", "regression"]
Wish = Literal["auto", "classification", "regression"]
"""What the study file asks for; `auto` lets the targets decide."""


def normal(name: str, targets: NDArray[Any]) -> NDArray[Any]:
    """Targets in any layout as an array `[N]` or `[N, D]` of numbers, booleans or text, without gaps.

    Raises BadData for another type or shape, for missing labels and for infinite numbers; `name` begins the message.
    """
    found = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
    if found.ndim not in (1, 2) or found.dtype.kind not in "biufUO":
        raise BadData(
            f"{name}: targets are {found.dtype} of shape {found.shape}: give numbers or text, "
            "one per row [N] (or numbers [N, D] for a regression of several)"
        )
    gaps = np.flatnonzero(_missing(found))
    if gaps.size:
        raise BadData(
            f"{name}: the target is missing in {gaps.size} of {len(found)} rows, first in row {gaps[0] + 1}: "
            "fill those in or leave those rows out"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise BadData(f"{name}: some targets are infinite: replace them or leave those rows out")
    return found


def _missing(targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have a target that is None or NaN."""
    if targets.dtype.kind in "OU":
        gaps = np.array([x is None or x != x for x in targets.ravel()], dtype=bool).reshape(targets.shape)
    else:
        gaps = np.isnan(targets)
    return np.logical_or.reduce(gaps, axis=tuple(range(1, gaps.ndim)))


def infer(targets: NDArray[Any]) -> Task:
    """Classification for text, booleans and whole numbers of at most 20 distinct values; else regression."""
    if targets.dtype.kind in "bUO":
        return "classification"
    few = targets.ndim == 1 and _whole(targets) and len(np.unique(targets)) <= MOST_CLASSES
    return "classification" if few else "regression"


def quantities(name: str, targets: NDArray[Any]) -> NDArray[np.float64]:
    """Regression targets `[N, D]`. Raises BadData if they are text."""
    if targets.dtype.kind in "UO":
        raise BadData(
            f"{name}: a regression needs targets that are numbers, not {str(targets.flat[0])!r}: "
            "set problem.task: classification, or give another target"
        )
    return targets.reshape(len(targets), -1).astype(np.float64)


def labels(name: str, targets: NDArray[Any], names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names in sorted order, and each row's class `[N]` as an index into them.

    `names` renames whole-number labels 0, 1, …. Raises BadData if a row has more than one target.
    """
    if targets.ndim != 1:
        raise BadData(
            f"{name}: a classification needs one label per row, not {targets.shape[1]}: give targets of shape [N]"
        )
    plain = np.array([str(x) for x in targets]) if targets.dtype.kind == "O" else targets
    values, codes = np.unique(plain, return_inverse=True)
    if values.dtype.kind in "iuf" and _whole(values):
        numbers = [int(value) for value in values]
        named = names and numbers[0] >= 0 and numbers[-1] < len(names)
        return tuple(names[n] if named else str(n) for n in numbers), codes.astype(np.int64)
    return tuple(str(value) for value in values), codes.astype(np.int64)


def _whole(numbers: NDArray[Any]) -> bool:
    return bool((numbers == np.floor(numbers)).all())
