"""Where the knots of a path lie."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpo.hypergradients.knots import CANDIDATES, Spacing, chosen, places
from solvers.sgd import SGDState


def path(along):
    """States on a line, by step; the velocity plays no part."""
    return {step: SGDState({"w": torch.tensor([float(x)])}, {"w": torch.zeros(1)}) for step, x in along.items()}


def square(weights):
    return weights["w"].square().sum()


@given(st.sampled_from(get_args(Spacing)), st.integers(2, 9), st.integers(1, 5000))
def test_first_and_last_are_kept_and_their_number_is_bounded(spacing, knots, steps):
    steps_kept = places(spacing, knots, steps)
    most = knots if spacing in ("late", "time") else CANDIDATES * (knots - 1) + 1
    assert steps_kept[0] == 0
    assert steps_kept[-1] == steps
    assert steps_kept == sorted(set(steps_kept))
    assert len(steps_kept) <= most


def test_late_knots_close_up_towards_the_end():
    assert places("late", 4, 900) == [0, 500, 800, 900]
    assert places("time", 4, 900) == [0, 300, 600, 900]


def test_arc_takes_equal_lengths_of_the_path():
    along = dict(zip(places("arc", 3, 160), [0, 8, 12, 14, 15, 15.5, 15.7, 15.8, 15.9, *[16] * 8], strict=True))
    assert chosen("arc", 3, path(along), square) == [0, 10, 160]


def test_loss_takes_equal_changes_of_the_loss_up_and_down():
    along = dict(zip(places("loss", 3, 160), [4, 4, 4, 3, 2, 1, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 4], strict=True))
    first, middle, last = chosen("loss", 3, path(along), square)
    assert (first, last) == (0, 160)
    assert 60 <= middle <= 90  # 16 down, then 16 up: half of it where the loss is 0


@pytest.mark.parametrize("place", [1.0, float("nan")])
@pytest.mark.parametrize("spacing", ["arc", "loss"])
def test_a_path_without_a_length_is_cut_evenly(spacing, place):
    states = path(dict.fromkeys(places(spacing, 3, 160), place))
    assert chosen(spacing, 3, states, square) == [0, 80, 160]


@given(st.lists(st.floats(0, 100), min_size=17, max_size=17))
def test_chosen_knots_are_ordered_and_end_at_the_ends(lengths):
    along = dict(zip(places("arc", 3, 160), lengths, strict=True))
    knots = list(chosen("arc", 3, path(along), square))
    assert knots == sorted(set(knots))
    assert (knots[0], knots[-1]) == (0, 160)
    assert len(knots) <= 3
