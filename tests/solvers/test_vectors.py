from typing import NamedTuple

import torch
from torch import Tensor

from solvers import vectors


class Pair(NamedTuple):
    weights: dict[str, Tensor]
    scale: Tensor


A = {"x": torch.tensor([[1.0, 2.0]]), "y": torch.tensor(3.0)}
B = {"x": torch.tensor([[4.0, -1.0]]), "y": torch.tensor(0.5)}


def test_flatten_and_back():
    flat = vectors.flatten(A)
    assert flat.tolist() == [1, 2, 3]
    back = vectors.unflatten(flat, A)
    assert all(torch.equal(back[n], A[n]) for n in A)


def test_algebra():
    assert vectors.subtract(A, B)["x"].tolist() == [[-3, 3]]
    assert vectors.zeros(A)["x"].tolist() == [[0, 0]]
    assert vectors.finite(A)
    assert not vectors.finite({**A, "y": torch.tensor(float("nan"))})


def test_a_state_is_rebuilt_from_its_leaves():
    state = Pair(A, torch.tensor(7.0))
    tensors = vectors.leaves(state)
    assert [x.numel() for x in tensors] == [2, 1, 1]
    again = vectors.rebuild(state, [2 * x for x in tensors])
    assert type(again) is Pair
    assert again.weights["y"] == 6
    assert again.scale == 14
