from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.problems.minibatches import Minibatches


def made(total: int, size: int, seed: int = 0) -> Minibatches:
    return Minibatches(torch.arange(total * 2.0).reshape(total, 2), torch.arange(total), size, seed)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(1, 70), st.permutations(range(30)), st.integers(0, 2**63))
def test_any_step_in_any_order_is_the_same_minibatch(total, size, order, seed):
    batches, again = made(total, size, seed), made(total, size, seed)
    forwards = [batches(t) for t in range(30)]
    for t in order:
        batch = again(t)
        assert batch.index == t
        assert torch.equal(batch.targets, forwards[t].targets)
        assert torch.equal(batch.inputs[:, 0], batch.targets * 2.0)


@pytest.mark.parametrize(("total", "size"), [(10, 3), (12, 4), (5, 4), (7, 1)])
def test_an_epoch_has_no_row_twice(total, size):
    batches = made(total, size)
    steps = total // size
    assert batches.steps_per_epoch == steps
    epochs = [torch.cat([batches(e * steps + s).targets for s in range(steps)]) for e in range(6)]
    for epoch in epochs:
        assert len(epoch) == steps * size == len(epoch.unique())
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1
    if total % size:
        assert len(torch.cat(epochs).unique()) == total, "rows left over by one epoch come in another"


@pytest.mark.parametrize("size", [8, 100])
def test_a_batch_of_all_rows_is_the_full_batch_in_order(size):
    batches = made(8, size)
    assert batches.steps_per_epoch == 1
    for t in (0, 5, 3):
        assert torch.equal(batches(t).targets, torch.arange(8))
        assert batches(t).index == t


def test_the_seed_decides_and_nothing_global():
    state = torch.random.get_rng_state()
    first = [made(50, 10, seed=1)(t).targets.tolist() for t in range(10)]
    assert first == [made(50, 10, seed=1)(t).targets.tolist() for t in range(10)]
    assert first != [made(50, 10, seed=2)(t).targets.tolist() for t in range(10)]
    assert torch.equal(state, torch.random.get_rng_state())


def test_going_backwards_over_an_epochs_end_keeps_to_few_permutations():
    batches = made(40, 10)
    expected = [batches(t).targets.tolist() for t in range(80)]
    assert [batches(t).targets.tolist() for t in reversed(range(80))] == expected[::-1]
    assert batches._permuted.cache_info().currsize <= 4
