"""The data sets that come with scikit-learn: nothing to download."""

from __future__ import annotations

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

        inputs, targets = load_breast_cancer(return_X_y=True)
        rows = Part(np.asarray(inputs), np.asarray(targets))
        return Records("breast-cancer", rows, standardised, names=("malignant", "benign"))


class Wine:
    """Chemical analyses of Italian wines: 178 rows, 13 numbers, three cultivars (Aeberhard, Forina 1991)."""

    def read(self, folders: Folders) -> Records:
        del folders
        from sklearn.datasets import load_wine

        inputs, targets = load_wine(return_X_y=True)
        return Records("wine", Part(np.asarray(inputs), np.asarray(targets)), standardised)


class Diabetes:
    """Progression of diabetes after a year: 442 rows, 10 numbers, regression (Efron et al. 2004)."""

    def read(self, folders: Folders) -> Records:
        del folders
        from sklearn.datasets import load_diabetes

        inputs, targets = load_diabetes(return_X_y=True)
        return Records("diabetes", Part(np.asarray(inputs), np.asarray(targets)), standardised)
