from __future__ import annotations

import datetime

import numpy as np
import pytest

from hpo.failures import BadData
from hpo.problems.arrays import scaled
from hpo.problems.dataset import Dataset, Part, Records, understood
from hpo.problems.targets import Wish


def learnt(targets: object, task: Wish = "auto", test: object = None, names: tuple[str, ...] = ()) -> Dataset:
    def part(values: object) -> Part:
        array = np.asarray(values)
        return Part(np.zeros((len(array), 2)), array)

    return understood(Records("d", part(targets), scaled(1.0), None if test is None else part(test), names), task)


@pytest.mark.parametrize(
    ("targets", "task", "classes"),
    [
        (["b", "a", "b"], "classification", ("a", "b")),
        (np.array(["b", "a", "b"], dtype=object), "classification", ("a", "b")),
        ([True, False], "classification", ("False", "True")),
        ([0, 7, 7], "classification", ("0", "7")),
        ([1.0, -2.0], "classification", ("-2", "1")),
        (range(20), "classification", tuple(str(i) for i in range(20))),
        (range(21), "regression", ()),
        ([0.5, 1.0], "regression", ()),
        ([[1], [0]], "classification", ("0", "1")),
        ([[1, 2], [0, 3]], "regression", ()),
    ],
)
def test_the_targets_tell_the_task(targets, task, classes):
    data = learnt(targets)
    assert (data.task, data.classes) == (task, classes)


def test_a_class_is_its_place_among_the_sorted_names():
    data = learnt([9, 3, 9, 5])
    assert data.classes == ("3", "5", "9")
    assert data.rows.targets.tolist() == [2, 0, 2, 1]
    assert data.rows.targets.dtype == np.int64
    assert data.outputs == 3


def test_quantities_are_columns():
    data = learnt([0.5, 1.5, 2.5])
    assert data.rows.targets.tolist() == [[0.5], [1.5], [2.5]]
    assert data.outputs == 1
    assert learnt([[0.5, 1], [2, 3]]).outputs == 2


def test_the_task_asked_for_comes_before_the_one_inferred():
    assert learnt([0, 1, 2], "regression").rows.targets.tolist() == [[0.0], [1.0], [2.0]]
    assert learnt([0.5, 1.5, 0.5], "classification").classes == ("0.5", "1.5")
    assert learnt([True, False], "regression").rows.targets.tolist() == [[1.0], [0.0]]


def test_names_rename_labels_that_are_their_indices():
    assert learnt([1, 0], names=("cat", "dog")).classes == ("cat", "dog")
    assert learnt([1, 2], names=("cat", "dog")).classes == ("1", "2")
    assert learnt([-1, 0], names=("cat", "dog")).classes == ("-1", "0")


def test_rows_and_test_part_share_one_numbering():
    data = learnt(["a", "c"], test=["b", "c"])
    assert data.classes == ("a", "b", "c")
    assert data.test is not None
    assert (data.rows.targets.tolist(), data.test.targets.tolist()) == ([0, 2], [1, 2])


@pytest.mark.parametrize(
    ("targets", "task", "said"),
    [
        (np.zeros((2, 2, 2)), "auto", r"d: targets are float64 of shape \(2, 2, 2\): give numbers or text"),
        ([datetime.date(2020, 1, 1)], "auto", None),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "auto", r"targets are datetime64\[D\]"),
        ([1.0, np.nan, 2.0, np.nan], "auto", "the target is missing in 2 of 4 rows, first in row 2"),
        (np.array(["a", None, "b"], dtype=object), "auto", "the target is missing in 1 of 3 rows, first in row 2"),
        ([[1.0, 2.0], [3.0, np.nan]], "auto", "the target is missing in 1 of 2 rows, first in row 2"),
        ([1.0, np.inf], "auto", "some targets are infinite"),
        (["a", "b"], "regression", "a regression needs targets that are numbers, not 'a'"),
        ([[1, 2], [3, 4]], "classification", "needs one label per row, not 2"),
        ([3, 3, 3], "auto", "all 3 rows are of class '3': classification needs two classes or more"),
        ([], "auto", "0 rows of inputs and 0 targets"),
    ],
)
def test_targets_that_cannot_be_learnt(targets, task, said):
    with pytest.raises(BadData, match=said) as caught:
        learnt(targets, task)
    assert "\n" not in str(caught.value)


def test_one_class_in_the_rows_is_not_saved_by_the_test_part():
    with pytest.raises(BadData, match="all 2 rows are of class 'a'"):
        learnt(["a", "a"], test=["b"])


def test_parts_of_different_columns():
    with pytest.raises(BadData, match=r"shapes \(2,\) and \(2, 2\)"):
        learnt([1, 2], test=[[1, 2], [3, 4]])


def test_inputs_and_targets_of_different_lengths():
    with pytest.raises(BadData, match="3 rows of inputs and 2 targets"):
        understood(Records("d", Part(np.zeros((3, 2)), np.arange(2)), scaled(1.0)))
