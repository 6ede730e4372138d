"""From the name in a study file to a data set, read once per process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadData
from hpo.problems import arrays, tables
from hpo.problems.dataset import Dataset, Folders, Records, Source, understood
from hpo.problems.folders import find, folders
from hpo.problems.imported import called, said
from hpo.problems.targets import Wish
from hpo.registry import SOURCES, resolve


def load(data: str, data_dir: Path | None = None, task: Wish = "auto") -> Dataset:
    """The data set that `problem.data` names; `data_dir` is looked in after the current folder.

    It is kept for the life of the process: a file that changes meanwhile is not read again.
    Raises BadData where it is missing, malformed or cannot be learnt from, BadStudy where an import path is wrong.
    """
    return _loaded(data, folders(data_dir), task)


@lru_cache(maxsize=8)
def _loaded(data: str, places: Folders, task: Wish) -> Dataset:
    return understood(_read(data, places), task)


def _read(data: str, places: Folders) -> Records:
    if data in SOURCES:
        source: Source = resolve(SOURCES[data])()
        return source.read(places)
    if data.startswith("openml:"):
        return tables.read_openml(data.removeprefix("openml:"), places[1] if len(places) > 1 else None)
    if data.endswith(".npz"):
        return arrays.read_npz(find(data, [data], places))
    if data.endswith((".csv", ".csv.gz")):
        return tables.read_csv(find(data, [data], places))
    return _returned(data, called("problem.data", data))


def _returned(path: str, found: Any) -> Records:
    """Records from (inputs, targets), or from a mapping of named arrays; inputs may be a pandas DataFrame."""
    if isinstance(found, tuple | list) and len(found) == 2:
        inputs, targets = found
        if hasattr(inputs, "iloc"):
            return tables.records(path, inputs, targets)
        found = {"x": inputs, "y": targets}
    if isinstance(found, dict):
        return arrays.records(path, {str(key): _array(path, str(key), value) for key, value in found.items()})
    raise BadData(
        f"problem.data: {path} returned {type(found).__name__}: return (inputs, targets), "
        "or a dict with x_train, y_train, x_test, y_test"
    )


def _array(path: str, key: str, value: object) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists; tensors on a GPU or with a graph
        raise BadData(f"problem.data: {path} returned {key} that is not an array ({said(error)})") from error
