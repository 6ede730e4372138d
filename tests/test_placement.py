"""A placed solver is the solver itself, seen as a function of the vectors of the space."""

import numpy as np
import pytest
import tiny
import torch

from hpo.dimension import Dimension
from hpo.hypergradients.forward import entries
from hpo.hypergradients.training import hypergradient
from hpo.placement import Placed, gather, place
from hpo.problems.network import perceptron
from hpo.space import resolve
from solvers.adam import Adam
from solvers.sgd import SGD
from solvers.vectors import leaves

LAYOUT = perceptron((6,), (5, 4), 3, "tanh", 0)[0].layout
COARSE = {"l2": {"per": "global"}, "learning_rate": {"per": "layer", "high": 0.2}}
FINE = {"l2": {"per": "neuron"}, "learning_rate": {"per": "neuron", "high": 0.2}, "momentum": {"default": 0.5}}
STEPWISE = {"learning_rate": {"per": "step"}}
WINDOWS = {"learning_rate": {"per": "step", "windows": 5}, "l2": {"per": "layer"}}
LAYERWISE = {"learning_rate": {"per": "layer-step", "windows": 5}, "l2": {"per": "layer"}}


def placed(dimensions, solver=SGD, fixed=None, steps=12):
    """(The training with its own solver, with a placed one, the space, its values, those as the solver has them)."""
    plain = tiny.training(solver(tiny.loss), steps)
    space = resolve({k: Dimension(**v) for k, v in dimensions.items()}, solver.hyperparameters, LAYOUT, steps)
    values = {n: x * np.linspace(0.5, 1.0, len(x)) for n, x in space.defaults().items()}
    seen = Placed(plain.solver, space, fixed or {})
    hyper = place(space, values, fixed or {}, torch.zeros((), dtype=torch.float64))
    return plain, plain._replace(solver=seen), space, values, hyper


@pytest.mark.parametrize("dimensions", [COARSE, FINE, STEPWISE, WINDOWS, LAYERWISE])
def test_it_trains_alike_and_its_derivative_is_gathered(dimensions):
    fixed = {} if "momentum" in dimensions else {"momentum": 0.5}
    plain, training, space, values, hyper = placed(dimensions, fixed=fixed)
    vectors = training.solver.vectors(values, torch.zeros(()))
    one = hypergradient("exact", plain, tiny.weights(), hyper)
    two = hypergradient("exact", training, tiny.weights(), vectors)
    assert all(torch.equal(one.weights[n], w) for n, w in two.weights.items())
    gathered, named = gather(space, one.gradient), training.solver.named(two.gradient)
    assert gathered.keys() == named.keys() == values.keys()
    for name, slopes in gathered.items():
        np.testing.assert_allclose(named[name], slopes, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dimensions", [COARSE, FINE, STEPWISE, WINDOWS, LAYERWISE])
def test_values_come_back_as_they_went(dimensions):
    _, training, _, values, _ = placed(dimensions)
    back = training.solver.named(training.solver.vectors(values, torch.zeros(())))
    assert all(np.array_equal(back[name], vector) for name, vector in values.items())


@pytest.mark.parametrize("dimensions", [STEPWISE, WINDOWS, LAYERWISE])
def test_tangents_of_a_schedule_begin_when_it_is_first_seen(dimensions):
    """Not later, which would be wrong, nor before, which would cost."""
    plain, training, space, values, hyper = placed(dimensions)
    vectors = training.solver.vectors(values, torch.zeros(()))
    found = hypergradient("forward", training, tiny.weights(), vectors)
    gathered = gather(space, hypergradient("exact", plain, tiny.weights(), hyper).gradient)
    for name, slopes in training.solver.named(found.gradient).items():
        np.testing.assert_allclose(slopes, gathered[name], rtol=1e-10, atol=1e-15)
    rates = space.groups[0]
    firsts = {np.flatnonzero(piece.windows == w)[0] for piece in rates.pieces for w in range(piece.shape[0])}
    seen = {entry.first for entry in entries(vectors, 12) if entry.key == "learning_rate[t]"}
    assert seen == firsts


@pytest.mark.parametrize("solver", [SGD, Adam])
def test_its_local_form_is_the_solvers(solver):
    plain, training, _, values, hyper = placed({"learning_rate": {"per": "layer"}}, solver)
    vectors = training.solver.vectors(values, torch.zeros(()))
    state = plain.solver.init(tiny.weights(), hyper, plain.batches(0))
    state = plain.solver.step(state, hyper, plain.batches(0))
    one, two = (s.heavy_ball(state, h, 0)[:2] for s, h in ((plain.solver, hyper), (training.solver, vectors)))
    assert all(torch.equal(x, y) for x, y in zip(leaves(one), leaves(two), strict=True))


def test_what_belongs_together_moves_together_within_the_bounds_of_the_space():
    _, training, space, values, _ = placed(COARSE, fixed={"momentum": 0.5}, steps=60)
    vectors = training.solver.vectors(values, torch.zeros(()))
    found = hypergradient("online", training, tiny.weights(), vectors, every=2, rate=0.3)
    ends = training.solver.named(found.hyper)
    assert {name: len(x) for name, x in ends.items()} == {"l2": 1, "learning_rate": 3}
    for group in space.groups:
        assert (ends[group.name] != values[group.name]).all()
        assert (ends[group.name] >= group.low * (1 - 1e-12)).all()
        assert (ends[group.name] <= group.high * (1 + 1e-12)).all()
    assert ends["learning_rate"].max() == pytest.approx(0.2), "the bound stopped it"
