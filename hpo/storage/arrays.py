"""Named arrays as rows: raw little-endian bytes in C order, zlib-compressed; every bit comes back, NaN payloads too."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.storage.tables import ArrayRow
from hpo.trial import Outcome, Proposal

Named = Mapping[str, NDArray[Any]]


def pack(trial_id: int, arrays: Named) -> list[ArrayRow]:
    """One row per array, in the order given. Raises TypeError for arrays of Python objects."""
    return [_row(trial_id, name, array, position) for position, (name, array) in enumerate(arrays.items())]


def _row(trial_id: int, name: str, array: NDArray[Any], position: int) -> ArrayRow:
    if array.dtype.hasobject:
        raise TypeError(f"array {name!r} holds Python objects ({array.dtype}); only numbers can be stored")
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"))
    # Level 1: long mantissas hardly compress at any level, and constant vectors do at every one.
    data = zlib.compress(little.tobytes(), level=1)
    return ArrayRow(
        trial_id=trial_id, name=name, position=position, dtype=little.dtype.str, shape=list(little.shape), data=data
    )


def unpack(row: ArrayRow) -> NDArray[Any]:
    """The array of a row, writable and in the machine's byte order."""
    stored = np.dtype(row.dtype)
    array = np.frombuffer(zlib.decompress(row.data), dtype=stored).reshape(row.shape)
    return array.astype(stored.newbyteorder("="))


def prefixed(prefix: str, arrays: Named) -> dict[str, NDArray[Any]]:
    """{"l2": …} → {"values/l2": …}."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def part(prefix: str, arrays: Named) -> dict[str, NDArray[Any]]:
    """The inverse of `prefixed`; other prefixes are left out."""
    return {name.removeprefix(f"{prefix}/"): a for name, a in arrays.items() if name.startswith(f"{prefix}/")}


def by_trial(rows: Iterable[ArrayRow]) -> dict[int, dict[str, NDArray[Any]]]:
    """Trial id → its arrays by name."""
    found: dict[int, dict[str, NDArray[Any]]] = {}
    for row in rows:
        found.setdefault(row.trial_id, {})[row.name] = unpack(row)
    return found


def of_outcome(outcome: Outcome) -> dict[str, NDArray[Any]]:
    """What is always kept of an outcome besides its figures."""
    vectors = prefixed("hypergradient", outcome.hypergradient or {}) | prefixed("ends", outcome.ends or {})
    return {**vectors, "curve": outcome.curve}


def summary(proposal: Proposal) -> dict[str, list[float | None]]:
    """{hyperparameter: [lowest, median, highest]}; None where there is no finite number to give."""
    return {name: _spread(values) for name, values in proposal.values.items()}


def _spread(values: NDArray[np.float64]) -> list[float | None]:
    if not values.size or not np.isfinite(values).all():
        return [None, None, None]
    ordered = np.sort(values, axis=None)
    median = ordered[(ordered.size - 1) // 2] / 2 + ordered[ordered.size // 2] / 2  # halved first: no overflow
    return [float(ordered[0]), float(median), float(ordered[-1])]
