from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.failures import BadData
from hpo.problems.arrays import scaled, standardised
from hpo.problems.dataset import Dataset, Part, Records, understood
from hpo.problems.split import divide, rows
from hpo.spec import Split

Share = st.one_of(st.integers(1, 200), st.floats(0.001, 0.999))


def numbered(total: int, own_test: int = 0, targets: np.ndarray | None = None) -> Dataset:
    """Rows whose only input is their number; the rows of an own test part are numbered on."""
    y = np.arange(total) / 7 if targets is None else targets
    test = Part(np.arange(total, total + own_test)[:, None], np.arange(own_test) / 7) if own_test else None
    return understood(Records("d", Part(np.arange(total)[:, None], y), scaled(1.0), test))


@settings(deadline=None)
@given(total=st.integers(1, 200), train=Share, validation=Share, own=st.booleans(), seed=st.integers(0, 2**63))
def test_parts_never_overlap_and_have_the_size_asked(total, train, validation, own, seed):
    try:
        cut = rows("d", total, Split(train=train, validation=validation), own, seed)
    except BadData as refused:
        fits = sum(n if isinstance(n, int) else max(1, int(n * total)) for n in (train, validation)) + (not own)
        assert fits > total or "less than one row" in str(refused)
        return
    together = np.concatenate(cut)
    assert len(np.unique(together)) == len(together)
    assert set(together.tolist()) <= set(range(total))
    assert (len(cut.test) == 0) if own else (len(together) == total)
    for part, asked in ((cut.train, train), (cut.validation, validation)):
        assert len(part) == asked if isinstance(asked, int) else 0 <= asked * total - len(part) + 1e-6 < 1.001


def test_the_seed_alone_decides():
    def drawn(seed: int) -> list[int]:
        return np.concatenate(rows("d", 50, Split(train=20, validation=10), False, seed)).tolist()

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert drawn(3) != list(range(50))


def test_fractions_are_of_all_rows_and_rounded_down():
    cut = rows("d", 100, Split(train=0.29, validation=0.5), False, 0)
    assert [len(part) for part in cut] == [29, 50, 21]
    assert [len(part) for part in rows("d", 7, Split(train=0.5, validation=0.5), True, 0)] == [3, 3, 0]


@pytest.mark.parametrize(
    ("total", "split", "own", "said"),
    [
        (500, Split(train=300, validation=600), False, "train 300 and validation 600 ask for 900 rows, d has 500: ask"),
        (500, Split(train=501, validation=1), True, "ask for 502 rows, d has 500 in its training part"),
        (500, Split(train=0.9, validation=100), False, "train 0.9 and validation 100 ask for 550 rows, d has 500"),
        (500, Split(train=0.5, validation=0.5), False, "leave nothing for the test, d has 500 and no test part of its"),
        (500, Split(train=300, validation=200), False, "leave nothing for the test"),
        (20, Split(train=0.01, validation=5), False, "problem.split.train: 0.01 of the 20 rows of d is less than one"),
        (20, Split(train=5, validation=0.04), False, "problem.split.validation: 0.04 of the 20 rows"),
    ],
)
def test_splits_that_do_not_fit(total, split, own, said):
    with pytest.raises(BadData, match=said):
        rows("d", total, split, own, 0)


@pytest.mark.parametrize("wrong", [1.0, 300.0, 0, -3, 0.0])
def test_neither_rows_nor_a_fraction(wrong):
    with pytest.raises(ValueError, match="neither a number of rows"):
        Split(train=wrong)


def test_the_own_test_part_stays_the_test_part():
    parts = divide(numbered(30, own_test=5), Split(train=10, validation=10), 0)
    assert parts.test.inputs[:, 0].tolist() == [30, 31, 32, 33, 34]
    assert max(parts.train.inputs.max(), parts.validation.inputs.max()) < 30


def test_inputs_and_targets_stay_together():
    y = np.arange(40) * 3.0 + 0.5
    data = numbered(40, targets=y)
    parts = divide(data, Split(train=20, validation=10), 1)
    fitted = y[parts.train.inputs[:, 0].astype(int)]
    for part in parts[:3]:
        expected = (y[part.inputs[:, 0].astype(int)] - fitted.mean()) / fitted.std()
        assert np.allclose(part.targets[:, 0], expected, atol=1e-5)
        assert (part.inputs.dtype, part.targets.dtype) == (np.float32, np.float32)


def test_only_the_training_rows_are_looked_at():
    x = np.random.default_rng(0).normal(2.0, 5.0, (60, 3))
    y = np.stack([x[:, 0] * 2, x[:, 1] - 4], axis=1)
    cut = rows("d", 60, Split(train=20, validation=20), False, 5)
    outside = np.concatenate([cut.validation, cut.test])
    changed, moved = x.copy(), y.copy()
    changed[outside] *= 1e3
    moved[outside] += 1e3
    before, after = (
        divide(understood(Records("d", Part(a, b), standardised)), Split(train=20, validation=20), 5)
        for a, b in ((x, y), (changed, moved))
    )
    assert np.array_equal(before.train.inputs, after.train.inputs)
    assert np.array_equal(before.train.targets, after.train.targets)
    assert not np.allclose(before.validation.inputs, after.validation.inputs)
    assert np.allclose(before.train.targets.std(axis=0), 1, atol=1e-5)


def test_a_training_part_of_one_class():
    labels = np.array(["rare"] + ["common"] * 99)
    data = numbered(100, targets=labels)
    seed = next(s for s in range(99) if 0 not in rows("d", 100, Split(train=5, validation=5), False, s).train)
    with pytest.raises(BadData, match="all 5 training rows of d are of class 'common': ask for more rows"):
        divide(data, Split(train=5, validation=5), seed)


def test_a_training_part_of_one_value():
    data = numbered(50, targets=np.full(50, 2.5))
    with pytest.raises(BadData, match=r"all 5 training rows of d have the same target 2\.5"):
        divide(data, Split(train=5, validation=5), 0)
    with pytest.raises(BadData, match="all 1 training rows"):
        divide(numbered(50), Split(train=1, validation=5), 0)
