from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hpo.failures import BadData, BadStudy
from hpo.problems.problem import Problem, build
from hpo.spec import Perceptron, Split
from hpo.spec import Problem as Spec
from solvers.sgd import SGD
from solvers.solver import Batch, run

SMALL = Spec(data="digits", split=Split(train=300, validation=600), model=Perceptron(mlp=(20,)))


def accuracy(problem: Problem, weights, part: Batch) -> float:
    return (problem.network.forward(weights, part.inputs).argmax(1) == part.targets).double().mean().item()


def test_digits():
    problem = build(SMALL, 100, 0, None)
    parts = (problem.train, problem.validation, problem.test)
    assert [tuple(part.inputs.shape) for part in parts] == [(300, 1, 8, 8), (600, 1, 8, 8), (897, 1, 8, 8)]
    assert [part.index for part in parts] == [-1, -1, -1]
    assert (problem.task, problem.classes) == ("classification", tuple("0123456789"))
    assert problem.train.inputs.dtype == torch.float32
    assert problem.train.targets.dtype == torch.int64
    whole = torch.cat([part.inputs.flatten(1) for part in parts])
    assert len(whole.unique(dim=0)) == 1797, "every row is in one part, once"
    assert {name: tuple(w.shape) for name, w in problem.weights.items()} == {
        w.name: w.shape for w in problem.network.layout
    }


def test_the_seed_alone_decides():
    first, again, other = (build(SMALL, 100, seed, None) for seed in (0, 0, 1))
    for name, weight in first.weights.items():
        assert torch.equal(weight, again.weights[name])
    assert not torch.equal(first.weights["layers.0.weight"], other.weights["layers.0.weight"])
    assert torch.equal(first.batches(7).inputs, again.batches(7).inputs)
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.test.inputs, other.test.inputs)


def test_the_loss_is_the_mean_criterion_without_a_penalty():
    problem = build(SMALL, 50, 0, None)
    batch = problem.batches(2)
    zeros = {name: torch.zeros_like(w) for name, w in problem.weights.items()}
    assert problem.loss(zeros, {}, batch).item() == pytest.approx(math.log(10))
    outputs = problem.network.forward(problem.weights, batch.inputs)
    expected = -outputs.log_softmax(1)[range(50), batch.targets].mean()
    huge = {"l2": torch.tensor(1e9)}
    assert problem.loss(problem.weights, huge, batch).item() == pytest.approx(expected.item())
    assert problem.criterion(outputs, batch.targets).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("data", ["digits", "wine", "breast-cancer"])
def test_classifications_can_be_learnt(data):
    problem = build(Spec(data=data, model=Perceptron(mlp=(20,), activation="tanh")), 32, 0, None)
    solver, hyper = SGD(problem.loss), {"learning_rate": torch.tensor(0.3)}
    state = solver.init(problem.weights, hyper, problem.batches(0))
    before = problem.loss(state.weights, {}, problem.test).item()
    state = run(solver, state, hyper, problem.batches, 0, 300)
    assert problem.loss(state.weights, {}, problem.test).item() < before / 2
    assert accuracy(problem, state.weights, problem.test) > 0.9


def test_a_regression_is_measured_in_variances_of_the_training_targets():
    problem = build(Spec(data="diabetes", model=Perceptron(mlp=())), 64, 0, None)
    assert (problem.task, problem.classes) == ("regression", ())
    assert problem.train.targets.shape == (265, 1)
    assert problem.train.targets.dtype == torch.float32
    zeros = {name: torch.zeros_like(w) for name, w in problem.weights.items()}
    assert problem.loss(zeros, {}, problem.train).item() == pytest.approx(1, abs=1e-5)
    solver, hyper = SGD(problem.loss), {"learning_rate": torch.tensor(0.02)}
    state = run(solver, solver.init(problem.weights, hyper, problem.batches(0)), hyper, problem.batches, 0, 300)
    assert problem.loss(state.weights, {}, problem.test).item() < 0.75


def test_several_targets_at_once(here):
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(here / "a.npz", x=x, y=x[:, :2] * 10 + 3)
    problem = build(Spec(data="a.npz"), 10, 0, None)
    assert problem.batches(0).targets.shape == (10, 2)
    assert problem.network.forward(problem.weights, problem.test.inputs).shape == (8, 2)
    assert problem.loss(problem.weights, {}, problem.batches(0)).shape == ()


def test_a_csv_from_the_data_folder_with_the_task_said(here):
    (here / "d").mkdir()
    text = "a,b,target\n" + "".join(f"{i % 7},{'uv'[i % 2]},{i % 3}\n" for i in range(60))
    (here / "d" / "t.csv").write_text(text)
    spec = Spec(data="t.csv")
    assert build(spec, 10, 0, here / "d").classes == ("0", "1", "2")
    regression = build(spec.model_copy(update={"task": "regression"}), 10, 0, here / "d")
    assert regression.test.targets.shape == (12, 1)
    assert regression.train.inputs.shape == (36, 3)


def test_a_module_of_the_users_gets_images(own):
    name = own(
        """
        from torch import nn
        def net(shape, outputs):
            channels, height, width = shape
            return nn.Sequential(nn.Conv2d(channels, 4, height), nn.Flatten(), nn.Tanh(), nn.Linear(4, outputs))
        """
    )
    problem = build(Spec(data="digits", model=f"{name}:net"), 100, 0, None)
    assert [w.shape for w in problem.network.layout] == [(4, 1, 8, 8), (4,), (10, 4), (10,)]
    solver, hyper = SGD(problem.loss), {"learning_rate": torch.tensor(0.5)}
    start = solver.init(problem.weights, hyper, problem.batches(0))
    end = run(solver, start, hyper, problem.batches, 0, 60)
    assert problem.loss(end.weights, {}, problem.test) < 0.7 * problem.loss(start.weights, {}, problem.test)


def test_faults_come_as_one_line(here):
    with pytest.raises(BadData, match=r"ask for 2900 rows, digits has 1797"):
        build(SMALL.model_copy(update={"split": Split(train=2000, validation=900)}), 100, 0, None)
    with pytest.raises(BadStudy, match=r"problem\.model: no module 'not_here'"):
        build(SMALL.model_copy(update={"model": "not_here:net"}), 100, 0, None)
    with pytest.raises(BadData, match="mnist: no MNIST/raw/train-images"):
        build(SMALL.model_copy(update={"data": "mnist"}), 100, 0, None)


def test_mnist(real):
    spec = Spec(data="mnist", split=Split(train=1000, validation=5000))
    problem = build(spec, 100, 0, real)
    assert [len(p.targets) for p in (problem.train, problem.validation, problem.test)] == [1000, 5000, 10_000]
    assert problem.batches(0).inputs.shape == (100, 1, 28, 28)
    assert sum(w.numel() for w in problem.weights.values()) == 44_860


@pytest.mark.gpu
def test_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    here, there = build(SMALL, 100, 0, None), build(SMALL, 100, 0, None, "cuda")
    assert all(w.is_cuda and torch.equal(w.cpu(), here.weights[name]) for name, w in there.weights.items())
    for t in (0, 9, 4):
        assert there.batches(t).inputs.is_cuda
        assert torch.equal(there.batches(t).inputs.cpu(), here.batches(t).inputs)
    loss = there.loss(there.weights, {}, there.validation)
    assert loss.item() == pytest.approx(here.loss(here.weights, {}, here.validation).item(), rel=1e-3)
