"""Tensors as arrays and back: every bit, and where it lies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.snapshot import arrays, tensors

TYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.bool,
]  # fmt: skip


def back(x):
    stored = {name: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for name, a in arrays({"x": x}).items()}
    assert all(a.flags.c_contiguous for a in stored.values())
    found = tensors(stored)
    assert found.keys() == {"x"}
    return found["x"]


def bits(x):
    return x.contiguous().view(torch.uint8) if x.dim() else x.reshape(1).view(torch.uint8)


def lies(x):
    return x.shape, x.stride(), x.data_ptr() % 64


def same(x):
    found = back(x)
    assert found.dtype == x.dtype
    assert torch.equal(bits(found), bits(x))
    assert lies(found) == lies(x)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (0, 5), (2, 0)])
def test_every_type_and_shape(dtype, shape):
    same((torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 50).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_bit_pattern_of_sixteen(dtype):
    same(torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype))


def test_payloads_of_what_is_no_number():
    same(torch.tensor([0x7FF0000000000001, -1, -(2**63), 0x7FF8000000000ABC]).view(torch.float64))


@settings(deadline=None)
@given(st.permutations([0, 1, 2]), st.integers(0, 3), st.integers(0, 2), st.sampled_from(TYPES))
def test_wherever_it_lies(order, start, end, dtype):
    whole = (torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) * 50).to(dtype)
    same(whole.permute(order)[start:, :, : 4 - end])
    same(whole.permute(order)[0])
    same(whole[:, 1:2, ::2])


def test_what_is_repeated_is_put_away_once():
    x = torch.arange(3.0).expand(4, 3)
    same(x)
    same(torch.tensor(2.0).expand(5, 2))
    same(torch.arange(12.0)[5:8, None].expand(3, 7))
    assert arrays({"x": x})["x"].size == 3


def test_what_lies_plainly_is_one_array():
    assert arrays({"x": torch.ones(3, 4)}).keys() == {"x"}
    assert arrays({"x": torch.ones(3, 4).T}).keys() == {"x", "x|layout"}
    assert arrays({"x": torch.ones(40, dtype=torch.bfloat16)[1:]}).keys() == {"x|bfloat16", "x|layout"}


def test_a_graph_is_left_behind_and_nothing_is_shared():
    x = torch.ones(3, requires_grad=True)
    stored = arrays({"x": 2 * x})
    found = tensors(stored)["x"]
    assert not found.requires_grad
    stored["x"][0] = 7
    assert found.tolist() == [2, 2, 2]


def test_a_type_without_an_array_is_named():
    with pytest.raises(ValueError, match="weights/0 is of torch.complex64, which cannot be put away: use one of b"):
        arrays({"weights/0": torch.ones(2, dtype=torch.complex64)})
