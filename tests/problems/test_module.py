from __future__ import annotations

import pytest
import torch

from hpo.failures import BadStudy
from hpo.problems.module import module
from hpo.space import Weight

NETS = """
    import torch
    from torch import nn
    import torch.nn.functional as F

    class Conv(nn.Module):
        def __init__(self, input_shape, outputs, width=4):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(input_shape[0], width, 3, padding=1), nn.GroupNorm(2, width), nn.ReLU())
            self.up = nn.ConvTranspose2d(width, 3, 2, stride=2, bias=False)
            self.head = nn.Linear(3, outputs)
            self.scale = nn.Parameter(torch.ones(()))
            self.shift = nn.Parameter(torch.zeros(outputs), requires_grad=False)
            self.register_buffer("shrink", torch.tensor(0.5))
        def forward(self, x):
            return self.head(self.up(self.body(x)).mean((2, 3))) * self.scale * self.shrink + self.shift

    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(12, 3)
            self.register_buffer("calls", torch.zeros(()))
        def forward(self, x):
            self.calls += 1
            return self.linear(x.flatten(1))

    class Noisy(Seen):
        def forward(self, x):
            return self.linear(F.dropout(x.flatten(1), 0.5))

    class Overwriting(Seen):
        def forward(self, x):
            return self.linear(x.relu_().flatten(1))

    class Idle(Seen):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(2, 2)
        def forward(self, x):
            return self.linear(x.flatten(1))

    class Cut(Idle):
        def forward(self, x):
            return super().forward(x).detach()

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(12, 12, bias=False)
            self.b = nn.Linear(12, 12, bias=False)
            self.b.weight = self.a.weight
        def forward(self, x):
            return self.b(torch.tanh(self.a(x.flatten(1))))[:, :3]

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 3)
        def forward(self, x):
            return self.embedding(x.flatten(1).abs().long().clamp(0, 4)).sum(1)

    def linear(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    def optional(width=3): return nn.Sequential(nn.Flatten(), nn.Linear(12, width))
    def lazy(shape, outputs): return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(outputs))
    def double(): return linear().double()
    def dropping(): return nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(12, 3))
    def not_dropping(): return nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(12, 3))
    def evaluating(): return dropping().eval()
    def running(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3))
    def not_running():
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3, track_running_stats=False))
    def normed():
        return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(12, 3)), nn.Tanh())
    def alone(): return nn.BatchNorm2d(2)
    def tall(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    def square(): return nn.Linear(3, 3)
    def several(): return nn.LSTM(3, 3)
    def narrow(): return nn.Linear(7, 3)
    def frozen(): return linear().requires_grad_(False)
    def failing(): raise ValueError("no such\\nwidth")
    def one(shape): return linear()
    def keywords(*, width): return linear()
    def nothing(): return None
"""

SAMPLE = torch.rand(4, 2, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.1


@pytest.fixture
def nets(own) -> str:
    return own(NETS)


def build(path: str, seed: int = 0):
    return module(path, SAMPLE, 3, seed, "cpu")


@pytest.mark.parametrize(
    "name", ["Conv", "linear", "optional", "lazy", "double", "not_dropping", "evaluating", "not_running", "Tied"]
)
def test_the_same_function_as_the_module(nets, name):
    state = torch.random.get_rng_state()
    network, weights = build(f"{nets}:{name}")
    again = build(f"{nets}:{name}")[1]
    other = build(f"{nets}:{name}", seed=1)[1]
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert any(not torch.equal(weights[key], other[key]) for key in weights)
    assert [w.name for w in network.layout] == list(weights)
    assert [w.shape for w in network.layout] == [tuple(w.shape) for w in weights.values()]
    assert all(w.dtype == torch.float32 and not w.requires_grad for w in weights.values())
    outputs = network.forward(weights, SAMPLE)
    assert outputs.shape == (4, 3)
    assert torch.equal(outputs, network.forward(again, SAMPLE))
    assert not torch.equal(outputs, network.forward(other, SAMPLE))


def test_forward_is_a_function_of_the_weights_given(nets):
    network, weights = build(f"{nets}:linear")
    doubled = {name: 2 * w for name, w in weights.items()}
    assert torch.allclose(network.forward(doubled, SAMPLE), 2 * network.forward(weights, SAMPLE))
    points = {name: w.clone().requires_grad_() for name, w in weights.items()}
    slopes = torch.autograd.grad(network.forward(points, SAMPLE).sum(), list(points.values()))
    assert torch.allclose(slopes[0][0], SAMPLE.flatten(1).sum(0))
    assert torch.allclose(slopes[1], torch.full((3,), 4.0))


def test_the_layout_by_kind_of_layer(nets):
    network, weights = build(f"{nets}:Conv")
    assert set(network.layout) == {
        Weight("scale", (), "", outgoing=None, incoming=None),
        Weight("body.0.weight", (4, 2, 3, 3), "body.0", outgoing=0, incoming=0),
        Weight("body.0.bias", (4,), "body.0", outgoing=None, incoming=0),
        Weight("body.1.weight", (4,), "body.1", outgoing=None, incoming=0),
        Weight("body.1.bias", (4,), "body.1", outgoing=None, incoming=0),
        Weight("up.weight", (4, 3, 2, 2), "up", outgoing=1, incoming=1),
        Weight("head.weight", (3, 3), "head", outgoing=1, incoming=0),
        Weight("head.bias", (3,), "head", outgoing=None, incoming=0),
    }
    assert "shift" not in weights, "a frozen parameter is a constant"
    assert build(f"{nets}:Words")[0].layout == (Weight("embedding.weight", (5, 3), "embedding", 0, 0),)
    assert build(f"{nets}:Tied")[0].layout == (Weight("a.weight", (12, 12), "a", 1, 0),)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dropping", r"layer '1' \(Dropout\) drops units at random \(p=0.25\), .*: leave it out"),
        ("running", r"layer '2' \(BatchNorm1d\) keeps running statistics, .*: use GroupNorm or LayerNorm"),
        ("alone", r"layer 'itself' \(BatchNorm2d\) keeps running statistics"),
        ("Seen", "changes its buffer 'calls' in the forward pass"),
        ("Noisy", "gives different outputs for the same inputs"),
        ("normed", "the second derivative is not symmetric, a fault of one of torch's kernels"),
        ("tall", r"gives \(4, 4\) for 4 rows: expected shape \(4, 3\)"),
        ("square", r"gives \(4, 2, 2, 3\) for 4 rows"),
        ("narrow", r"fails on inputs of shape \(4, 2, 2, 3\): RuntimeError"),
        ("frozen", "has no trainable parameter"),
        ("Idle", "the outputs do not depend on parameter 'other.weight'"),
        ("Cut", "the outputs do not depend on parameter 'linear.weight'"),
        ("failing", r"failing\(\) fails: ValueError: no such width"),
        ("one", r"requires \(shape\): it must take \(input_shape, outputs\) or nothing"),
        ("keywords", r"requires \(width\): it must take"),
        ("nothing", "returned NoneType: return a torch.nn.Module"),
        ("missing", "unknown function of own_"),
    ],
)
def test_modules_that_cannot_be_replayed_or_do_not_fit(nets, name, said):
    state = torch.random.get_rng_state()
    with pytest.raises(BadStudy, match=said) as caught:
        build(f"{nets}:{name}")
    assert str(caught.value).startswith("problem.model: ")
    assert "\n" not in str(caught.value)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_module_that_returns_no_tensor(nets):
    with pytest.raises(BadStudy, match=r"gives tuple for 4 rows: expected shape \(4, 3\)"):
        module(f"{nets}:several", torch.rand(4, 5, 3), 3, 0, "cpu")


def test_inputs_changed_in_place(nets):
    with pytest.raises(BadStudy, match="changes its inputs in place"):
        module(f"{nets}:Overwriting", SAMPLE - 0.5, 3, 0, "cpu")
