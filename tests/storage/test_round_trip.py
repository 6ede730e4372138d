"""What is stored comes back bit by bit, whatever the numbers and names are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from entries import FREE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hpo.spec import Study
from hpo.storage import arrays
from hpo.storage.ledger import Ledger
from hpo.trial import Cost, Outcome, Proposal, Values

numbers = st.floats(width=64)
names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=8)
vectors = hnp.arrays(np.float64, st.integers(0, 5), elements=numbers)
values = st.dictionaries(names, vectors, min_size=1, max_size=3)
costs = st.builds(Cost, st.integers(0, 9), st.floats(0, 1e9), st.floats(0, 1e6))
outcomes = st.builds(
    Outcome,
    state=st.sampled_from(["complete", "failed", "pruned"]),
    validation_loss=numbers,
    test_loss=numbers,
    test_accuracy=st.none() | st.floats(0, 1),
    curve=hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.just(3)), elements=numbers),
    cost=costs,
    hypergradient=st.none() | values,
    ends=st.none() | values,
    failure=st.none() | names,
)
tensors = hnp.arrays(
    st.sampled_from([np.dtype(t) for t in ("<f4", ">f4", "<f8", "<f2", "<i8", ">i4", "|b1", "|u1", "<c16")]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@pytest.fixture
def numbered(ledger: Ledger, study: Study) -> Iterator[int]:
    ledger.begin(study, {})
    return itertools.count()


def bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.newbyteorder("=").str, array.shape, array.astype(array.dtype.newbyteorder("=")).tobytes()


def all_bits(named: Values) -> list[object]:
    return [(name, bits(array)) for name, array in named.items()]


def same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=values, derivative=st.none() | names, outcome=outcomes, ask_seconds=st.floats(0, 1e6))
def test_a_trial_comes_back_bit_by_bit(
    ledger: Ledger,
    numbered: Iterator[int],
    values: Values,
    derivative: str | None,
    outcome: Outcome,
    ask_seconds: float,
) -> None:
    proposal = Proposal(next(numbered), values, derivative)
    with ledger.attend("digits", 1) as lease:
        claim = ledger.claim(lease, "drmad/0", proposal, ask_seconds, FREE)
        assert claim is not None
        assert ledger.close_trial(claim, outcome)
    found = ledger.trials("digits", "drmad/0")[-1]
    back = found.outcome
    assert back is not None
    assert (found.number, found.state, found.proposal.derivative) == (proposal.number, outcome.state, derivative)
    assert all_bits(found.proposal.values) == all_bits(values)
    assert same(back.validation_loss, outcome.validation_loss)
    assert same(back.test_loss, outcome.test_loss)
    assert (back.test_accuracy, back.cost, back.failure) == (outcome.test_accuracy, outcome.cost, outcome.failure)
    assert bits(back.curve) == bits(outcome.curve)
    assert (back.hypergradient is None) == (outcome.hypergradient is None)
    assert all_bits(back.hypergradient or {}) == all_bits(outcome.hypergradient or {})
    assert (back.ends is None) == (outcome.ends is None)
    assert all_bits(back.ends or {}) == all_bits(outcome.ends or {})


@given(named=st.dictionaries(names, tensors, max_size=4))
def test_arrays_of_any_kind_come_back_bit_by_bit(named: dict[str, np.ndarray]) -> None:
    rows = arrays.pack(1, named)
    assert all(row.dtype[0] in "<|" for row in rows)
    found = arrays.by_trial(rows).get(1, {})
    assert all_bits(found) == all_bits(named)
    assert all(array.flags.writeable and array.dtype.isnative for array in found.values())


def test_the_payload_of_a_nan_survives() -> None:
    odd = np.array([0x7FF8_0000_DEAD_BEEF, 0xFFF0_0000_0000_0001], dtype=np.uint64).view(np.float64)
    [row] = arrays.pack(1, {"a": odd})
    assert arrays.unpack(row).view(np.uint64).tolist() == odd.view(np.uint64).tolist()


def test_a_constant_vector_takes_no_room() -> None:
    [row] = arrays.pack(1, {"values/l2": np.full(44_700, 1e-3)})
    assert len(row.data) < 44_700 * 8 / 50


def test_parts_of_one_name_are_kept_apart() -> None:
    whole = arrays.prefixed("values", {"l2": np.ones(1), "values/l2": np.zeros(1)}) | {"curve": np.zeros((0, 3))}
    assert list(whole) == ["values/l2", "values/values/l2", "curve"]
    assert list(arrays.part("values", whole)) == ["l2", "values/l2"]
