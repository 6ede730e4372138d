"""A layered step: Adam for the mean of a layer, one length for its deviations, a pull that follows the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draw
from hypothesis.extra.numpy import arrays
from landscapes import group, run
from studies_small import study as small

from hpo.arm import strategy_for
from hpo.evaluation import plan
from hpo.space import Group, Piece, Space
from hpo.strategies import directions
from hpo.strategies.descent import Descent
from hpo.trial import Array, Outcome, Proposal, Trial

BETAS = (0.8, 0.99)
OF = np.array([0, 0, 0, 1, 1, 2])
SLOPES = arrays(float, (5, 6), elements=draw.floats(-1, 1).filter(lambda x: x == 0 or abs(x) > 1e-3))


def layered(slopes: Array, of: Array = OF) -> Array:
    moments = directions.none("layered", slopes.shape[1])
    for one in slopes:
        moments = directions.seen(moments, "layered", of, one, BETAS)
    return directions.direction(moments, "layered", slopes[-1], BETAS)


def adam(slopes: Array) -> Array:
    moments = directions.none("adam", slopes.shape[1])
    for one in slopes:
        moments = directions.seen(moments, "adam", np.arange(slopes.shape[1]), one, BETAS)
    return directions.direction(moments, "adam", slopes[-1], BETAS)


@given(SLOPES)
def test_it_is_adam_where_every_layer_has_one_value(slopes: Array) -> None:
    np.testing.assert_array_equal(layered(slopes, np.arange(6)), adam(slopes))


@given(arrays(float, (5, 3), elements=draw.floats(0.001, 1)))
def test_a_layer_of_equal_slopes_goes_as_one_value(slopes: Array) -> None:
    spread = slopes[:, [0, 0, 0, 1, 1, 2]]
    np.testing.assert_allclose(layered(spread), adam(slopes * [3, 2, 1])[[0, 0, 0, 1, 1, 2]], atol=1e-9)


def test_a_unit_moves_by_how_much_it_matters_in_its_layer() -> None:
    along = layered(np.array([[2.0, -1.0, -1.0, 0.01, -0.01, 0.0]]))
    np.testing.assert_allclose(along[:3], 2 * np.array([2, -1, -1]) / np.sqrt(2), rtol=1e-9)  # h over its length
    np.testing.assert_allclose(along[3:5], [2, -2], rtol=1e-6)  # a layer of small slopes goes as far as any
    assert along[5] == 0


def test_no_unit_goes_further_than_two_lengths() -> None:
    slopes = np.zeros((1, 100))
    slopes[0, 0] = 1.0
    assert layered(slopes, np.zeros(100, dtype=int))[0] == pytest.approx(1 + 2 * 2)  # the mean's step and the farthest


def test_a_stretch_of_values_that_a_weight_has_for_itself_is_a_layer() -> None:
    pieces = (Piece("l2.a", 0, 3, (1, 3)), Piece("l2.b", 3, 5, (1, 2)), Piece("l2.a.bias", 0, 3, (3,)))
    space = Space((Group("l2", "neuron", 1e-6, 1.0, 1e-3, True, 5, pieces), group("momentum", 1, 0, 0.9, 0, False)))
    np.testing.assert_array_equal(directions.layers(space), OF)


def pulled(prior: float, rows: int) -> Array:
    """Deviations from the layer's mean of 100 units, one of them pushed away once and then left alone."""
    space = Space((group("l2", 100, 1e-6, 1.0, 1e-3, True),))
    strategy = Descent(space, 0, derivative="exact", prior=prior, validation_rows=rows)
    push = np.zeros(100)
    push[0] = -1.0

    def evaluate(proposal: Proposal) -> Outcome:
        slope = (push if proposal.number == 0 else 0 * push) / proposal.values["l2"]
        return Outcome("complete", 1.0, 1.0, hypergradient={"l2": slope})

    points = [space.flatten(t.proposal.values) for t in run(strategy, evaluate, 60)]
    return np.array([z[0] - z.mean() for z in points])


def test_few_rows_pull_a_unit_back_to_its_layer_and_many_let_it_stay() -> None:
    few, many = pulled(1.0, 10), pulled(1.0, 100_000)
    assert few[1] == pytest.approx(many[1]) and few[1] > 0.5
    assert few[-1] < 0.2 * few.max()
    assert many[-1] > 0.8 * many.max()


@pytest.mark.parametrize(
    ("loss", "share"),
    [(1.0, 1.0), (0.01, 0.25), (0.0, 0.01)],  # 2 · 50 · 0.01 / 4 = 0.25; at least a hundredth
)
@pytest.mark.parametrize("nats", [True, False])
def test_the_prior_is_that_of_the_formula(loss: float, share: float, nats: bool) -> None:
    """From a point that is apart, with no slope of its own: g = (z − z̄)/(N τ²)."""
    space = Space((group("l2", 4, 1e-6, 1.0, 1e-3, True), group("momentum", 1, 0.0, 0.9, 0.5, False)))
    strategy = Descent(space, 0, derivative="exact", prior=2.0, validation_rows=50, nats=nats)
    share = share if nats else 1.0
    values = {"l2": np.exp([-1.0, -2.0, -3.0, -6.0]), "momentum": np.array([0.5])}
    flat = {"l2": np.zeros(4), "momentum": np.zeros(1)}
    trials = [
        Trial(Proposal(n, values, "exact"), Outcome("complete", x, x, hypergradient=flat))
        for n, x in ((0, loss), (1, loss / 2), (2, loss / 4))
    ]
    for trial in trials:  # all as the first: L₀ stays
        found = strategy._slopes(trial)
        np.testing.assert_allclose(found, np.array([2.0, 1.0, 0.0, -3.0, 0.0]) / (50 * 4 * share), atol=1e-12)
        strategy.tell(trial)


def test_a_study_tells_how_many_rows_it_validates_on_and_whether_losses_are_in_nats() -> None:
    regression = {"data": "diabetes", "split": {"train": 100, "validation": 200}, "model": {"mlp": [4]}}
    for problem, nats in (({}, True), ({"problem": regression}, False)):
        one = small(methods=["drmad"], **problem)
        assert strategy_for(one.arms()[0], plan(one, one.arms()[0], None)).settings["nats"]["given"] is nats
    study = small(methods=["drmad", {"name": "drmad", "step": "adam", "label": "plain"}])
    told = {}
    for arm in study.arms():
        there = plan(study, arm, None)
        told[arm.title] = strategy_for(arm, there).settings["validation_rows"], there.rows[1]
    assert told["drmad"][0] == told["drmad"][1] == told["plain"][0]
    assert {strategy_for(a, plan(study, a, None)).settings["prior"] for a in study.arms()} == {3.0, None}
