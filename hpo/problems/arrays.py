"""Arrays as inputs: how each kind becomes float32, and data sets in `.npz` files.

| array | taken for | becomes |
|---|---|---|
| uint8 `[N, H, W]`, `[N, H, W, C]` (C = 1, 3, 4), `[N, C, H, W]` | images | `[N, C, H, W]` / 255 |
| uint8 `[N, F]` | flattened images | `[N, F]` / 255 |
| other numbers `[N, F]`, or `[N]` (F = 1) | a table | standardised on the training rows |
| other numbers `[N, …]` of more axes | prepared already | unchanged, as float32 |
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadData
from hpo.problems.dataset import Inputs, Part, Prepare, Prepared, Records


def scaled(highest: float) -> Prepare:
    """x / highest: nothing is fitted."""

    def prepare(training: Inputs) -> Prepared:
        del training
        return Prepared(lambda inputs: np.divide(inputs, highest, dtype=np.float32))

    return prepare


def standardised(training: Inputs, columns: Sequence[str] | None = None) -> Prepared:
    """(x − mean) / deviation of each training column; a column without deviation is only centred."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.asarray(training, dtype=np.float64))
    return Prepared(
        lambda inputs: np.asarray(scaler.transform(np.asarray(inputs, dtype=np.float64)), dtype=np.float32),
        None if columns is None else tuple(columns),
    )


def records(name: str, content: Mapping[str, NDArray[Any]]) -> Records:
    """The data set in named arrays: `x_train`, `y_train`, perhaps `x_test`, `y_test`; or `x`, `y`.

    `class_names`, where given, are the names of the labels 0, 1, …. Other names are left alone.
    Raises BadData: names missing, inputs that are not finite numbers, test inputs of another shape.
    """
    for x, y in (("x_train", "y_train"), ("x", "y")):
        if x in content and y in content:
            inputs = _numbers(name, x, content[x])
            break
    else:
        has = ", ".join(content) or "nothing"
        raise BadData(f"{name}: has {has}: give x_train and y_train (and x_test, y_test for a test part), or x and y")
    test = None
    if "x_test" in content or "y_test" in content:
        if "x_test" not in content or "y_test" not in content:
            raise BadData(f"{name}: has only one of x_test and y_test: give both, or neither")
        test = Part(_numbers(name, "x_test", content["x_test"]), content["y_test"])
        if _kind(test.inputs) != _kind(inputs):
            raise BadData(
                f"{name}: rows of {x} are {_kind(inputs)} and rows of x_test {_kind(test.inputs)}: give both alike"
            )
    names = tuple(str(n) for n in content["class_names"]) if "class_names" in content else ()
    return Records(name, Part(inputs, content[y]), _preparation(inputs), test, names)


def _numbers(name: str, key: str, array: NDArray[Any]) -> NDArray[Any]:
    """Inputs as a numeric array `[N, …]`, images with their channels first. Raises BadData if it is not one."""
    if array.dtype.kind not in "biuf" or array.ndim < 1 or not array.size:
        raise BadData(f"{name}: {key} is {array.dtype} of shape {array.shape}: give numbers, one row per example")
    if not np.isfinite(array).all():
        raise BadData(f"{name}: {key} has {(~np.isfinite(array)).sum()} values that are NaN or infinite: replace them")
    if array.ndim == 1:
        return array[:, None]
    if array.dtype != np.uint8:
        return array
    if array.ndim == 3:
        return array[:, None]
    return np.moveaxis(array, -1, 1) if array.ndim == 4 and array.shape[-1] in (1, 3, 4) else array


def _kind(inputs: Inputs) -> str:
    """What the rows of both parts must have in common."""
    shape = "×".join(str(size) for size in inputs.shape[1:])
    return f"{shape} {'bytes' if isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8 else 'numbers'}"


def _preparation(inputs: NDArray[Any]) -> Prepare:
    if inputs.dtype == np.uint8:
        return scaled(255.0)
    return standardised if inputs.ndim == 2 else scaled(1.0)


def read_npz(path: Path) -> Records:
    """The data set in a `.npz` file, as `records`. Raises BadData also where the file is not one."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return records(path.name, {key: file[key] for key in file.files})
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise BadData(f"{path}: cannot be read as .npz ({error}): write it with numpy.savez") from error
