"""The data sets that come with scikit-learn: nothing to download."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from hpo.problems.arrays import scaled, standardised
from hpo.problems.dataset import Folders, Part, Records


class Digits:
    """Handwritten digits: 1,797 images 8×8 of 16 grey values, ten classes (Alpaydin, Kaynak 1998)."""

    def read(self, folders: Folders) -> Records:
        del folders
        from sklearn.datasets import load_digits

        images, targets = load_digits(return_X_y=True)
        rows = Part(np.asarray(images).reshape(-1, 1, 8, 8), np.asarray(targets))
        return Records("digits", rows, scaled(16.0))


class BreastCancer:
    """Wisconsin diagnostic breast cancer: 569 rows, 30 numbers, two classes (Street, Wolberg, Mangasarian 1993)."""

    def read(self, folders: Folders) -> Records:
        del folders
        from sklearn.datasets import load_breast_cancer

        return _table("breast-cancer", load_breast_cancer(), ("malignant", "benign"))


class Wine:
    """Chemical analyses of Italian wines: 178 rows, 13 numbers, three cultivars (Aeberhard, Forina 1991)."""

    def read(self, folders: Folders) -> Records:
        del folders
        from sklearn.datasets import load_wine

        return _table("wine", load_wine())


class Diabetes:
    """Progression of diabetes after a year: 442 rows, 10 numbers, regression (Efron et al. 2004)."""

    def read(self, folders: Folders) -> Records:
        del folders
        from sklearn.datasets import load_diabetes

        return _table("diabetes", load_diabetes())


def _table(name: str, found: Any, names: tuple[str, ...] = ()) -> Records:
    """A Bunch of scikit-learn: a table of numbers whose columns have names."""
    columns = [str(column) for column in found.feature_names]
    rows = Part(np.asarray(found.data), np.asarray(found.target))
    return Records(name, rows, partial(standardised, columns=columns), names=names)
