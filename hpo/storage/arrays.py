"""Named arrays as rows: raw little-endian bytes in C order; every bit comes back, NaN payloads too.

`codec` zlib: compressed; raw: as they are. Long mantissas hardly compress at any level and constant vectors do at every
one, so the first bytes decide, at the lowest level.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadStorage
from hpo.storage.tables import ArrayRow, CheckpointRow
from hpo.trial import Outcome, Proposal

Named = Mapping[str, NDArray[Any]]
Row = TypeVar("Row", ArrayRow, CheckpointRow)

SAMPLE = 16_384
WORTH = 0.9
"""An array is compressed if its first bytes shrink to less than this share."""


def pack(trial_id: int, arrays: Named, kind: type[Row] = ArrayRow) -> list[Row]:
    """One row per array, in the order given. Raises TypeError for arrays of Python objects."""
    return [
        kind(trial_id=trial_id, name=name, position=position, **encoded(name, array))
        for position, (name, array) in enumerate(arrays.items())
    ]


def encoded(name: str, array: NDArray[Any]) -> dict[str, Any]:
    """The columns that hold an array. Raises TypeError for one of Python objects, naming it."""
    if array.dtype.hasobject:
        raise TypeError(f"array {name!r} holds Python objects ({array.dtype}); only numbers can be stored")
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"))
    data, codec = little.tobytes(), "raw"
    if len(zlib.compress(data[:SAMPLE], level=1)) < WORTH * len(data[:SAMPLE]):
        data, codec = zlib.compress(data, level=1), "zlib"
    return {"dtype": little.dtype.str, "shape": list(little.shape), "codec": codec, "data": data}


def unpack(row: ArrayRow | CheckpointRow) -> NDArray[Any]:
    """The array of a row, writable and in the machine's byte order. Raises BadStorage for one that is damaged."""
    try:
        stored = np.dtype(row.dtype)
        if row.codec not in ("zlib", "raw"):
            raise ValueError(f"unknown codec {row.codec!r}")
        data = zlib.decompress(row.data) if row.codec == "zlib" else row.data
        array = np.frombuffer(data, dtype=stored).reshape(row.shape)
    except (zlib.error, ValueError, TypeError) as error:
        raise BadStorage(
            f"array {row.name!r} of trial row {row.trial_id} is damaged ({error}): see hpo db check"
        ) from error
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
    middle = [(values.size - 1) // 2, values.size // 2]
    low, high = np.partition(values, middle, axis=None)[middle] / 2  # halved before they are added: no overflow
    return [float(values.min()), float(low + high), float(values.max())]
