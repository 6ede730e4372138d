"""The HSIC bottleneck on perceptrons: its sweep, its derivative, its two read-outs, what it refuses."""

from itertools import pairwise

import pytest
import tiny
import torch
import torch.nn.functional as F

from solvers.chain import dense, through
from solvers.hsic import HSIC, SHARPNESS
from solvers.independence import indicators
from solvers.solver import Batch, run
from solvers.vectors import leaves

HYPER = {
    "learning_rate": tiny.tensor(0.01),
    "head_rate": tiny.tensor(0.3),
    "sigma": tiny.tensor(3.0),
    "beta": tiny.tensor(20.0),
    **tiny.per_neuron_l2(),
}
WHOLE = tiny.part(1, 60)
BATCH = tiny.batches(WHOLE, 20)
OTHER = tiny.part(2, 40)


def chain(activation="tanh", sizes=tiny.SIZES):
    kinds = [activation] * (len(sizes) - 2) + ["identity"]
    return tuple(dense(f"layers.{i}.weight", f"layers.{i}.bias", kind) for i, kind in enumerate(kinds))


def made(**options):
    return HSIC(chain(), F.cross_entropy, WHOLE, **options)


def trained(solver, weights=None, hyper=HYPER, steps=4, batch=BATCH):
    state = solver.init(weights or tiny.weights(), hyper, batch(0))
    return run(solver, state, hyper, batch, 0, steps).weights


def one_sided(x, sigma):
    squares = (x[:, None] - x).square().sum(-1)
    gram = torch.exp(squares / (-2 * x.shape[1] * sigma**2)) @ (torch.eye(len(x), dtype=x.dtype) - 1 / len(x))
    return gram @ torch.linalg.inv(gram + 1e-5 * len(x) * torch.eye(len(x), dtype=x.dtype))


def layer_by_layer(weights, steps):
    """The authors' loop: a forward pass of the whole network for each layer, whose parameters alone are moved."""
    weights = dict(weights)
    for batch in map(BATCH, range(steps)):
        x, y = (one_sided(a, HYPER["sigma"]) for a in (batch.inputs, indicators(batch.targets, 3, batch.inputs)))
        for layer in range(3):
            points = {n: w.requires_grad_() for n, w in weights.items()}
            a, outputs = batch.inputs, []
            for i in range(3):
                a = F.linear(a, points[f"layers.{i}.weight"], points[f"layers.{i}.bias"])
                a = (a - a.mean(0)) / torch.sqrt(a.var(0, correction=0) + 1e-5)
                a = torch.tanh(a) if i < 2 else torch.relu(a)
                outputs.append(one_sided(a, HYPER["sigma"]))
            names = [f"layers.{layer}.weight", f"layers.{layer}.bias"]
            loss = (outputs[layer] * x.T).sum() - HYPER["beta"] * (outputs[layer] * y.T).sum()
            loss = loss + 0.5 * (HYPER[f"l2.{names[0]}"] * points[names[0]].square()).sum()
            slopes = torch.autograd.grad(loss, [points[n] for n in names])
            moved = {n: points[n] - HYPER["learning_rate"] * g for n, g in zip(names, slopes, strict=True)}
            weights = {n: moved.get(n, w).detach() for n, w in points.items()}
    return weights


def test_one_sweep_is_the_forward_pass_for_each_layer():
    found = trained(made(readout="assigned"))
    for n, w in layer_by_layer(tiny.weights(), 4).items():
        torch.testing.assert_close(found[n], w, rtol=1e-7, atol=1e-9)


def test_layers_above_have_no_part_in_an_update():
    below = trained(made())
    weights = {n: w if n.startswith("layers.0") else w + 1 for n, w in tiny.weights().items()}
    above = trained(made(), weights)
    assert all(torch.equal(above[n], w) for n, w in below.items() if n.startswith("layers.0"))
    assert not torch.allclose(above["layers.1.weight"] - 1, below["layers.1.weight"])


def test_the_heads_loss_has_no_part_in_the_updates_below():
    """A hundred times the head's loss moves nothing but the head."""
    plain = trained(made(), steps=1)
    steeper = HSIC(chain(), lambda z, y: 100 * F.cross_entropy(z, y), WHOLE)
    other = trained(steeper, steps=1)
    for n, w in plain.items():
        assert torch.equal(other[n], w) == (not n.startswith("layers.2"))


def test_the_head_is_trained_on_the_features_below_it():
    weights, hyper = tiny.weights(), {**HYPER, "l2": tiny.tensor(0.0)}
    found = trained(made(), weights, hyper, steps=1)
    a = BATCH(0).inputs
    for i in range(2):
        a = F.linear(a, found[f"layers.{i}.weight"], found[f"layers.{i}.bias"])
        a = torch.tanh((a - a.mean(0)) / torch.sqrt(a.var(0, correction=0) + 1e-5))
    head = [weights[f"layers.2.{kind}"].clone().requires_grad_() for kind in ("weight", "bias")]
    loss = F.cross_entropy(F.linear(a, *head), BATCH(0).targets)
    loss = loss + 0.5 * (HYPER["l2.layers.2.weight"] * head[0].square()).sum()
    for kind, w, g in zip(("weight", "bias"), head, torch.autograd.grad(loss, head), strict=True):
        torch.testing.assert_close(found[f"layers.2.{kind}"], (w - 0.3 * g).detach())


@pytest.mark.parametrize("readout", ["head", "assigned"])
def test_the_derivative_through_steps_and_readout(readout):
    solver = made(readout=readout)
    rates = {n: x for n, x in tiny.per_neuron_rate(0.01).items() if readout == "assigned" or "layers.2" not in n}
    hyper = {**HYPER, **tiny.per_neuron_l2(0.2, 1.0), "initial_scale": tiny.tensor(1.5), **rates}
    unused = ("learning_rate", "head_rate") if readout == "assigned" else ("learning_rate",)

    def value(hyper):
        state = solver.init(tiny.weights(), hyper, BATCH(0))
        for t in range(5):
            state = solver.step(state, hyper, BATCH(t))
        return F.cross_entropy(through(chain(), solver.readout(state.weights), OTHER.inputs), OTHER.targets)

    generator = torch.Generator().manual_seed(5)
    for key in (k for k in hyper if k not in unused):
        x, knob = hyper[key], hyper[key].clone().requires_grad_()
        derivative = torch.autograd.grad(value({**hyper, key: knob}), knob)[0]
        way = torch.randn(x.shape, generator=generator, dtype=x.dtype) * x.abs().mean()
        ends = [value({**hyper, key: x + sign * 1e-4 * way}) for sign in (1, -1)]
        assert torch.isclose((derivative * way).sum(), (ends[0] - ends[1]) / 2e-4, rtol=1e-6, atol=1e-10), key


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own forward mode
def test_forwards_and_backwards_the_derivative_is_the_same():
    solver, one = made(), tiny.tensor(1.0)

    def value(beta):
        hyper = {**HYPER, "beta": beta}
        state = solver.init(tiny.weights(), hyper, BATCH(0))
        for t in range(4):
            state = solver.step(state, hyper, BATCH(t))
        return F.cross_entropy(through(chain(), solver.readout(state.weights), OTHER.inputs), OTHER.targets)

    forwards = torch.func.jvp(value, (HYPER["beta"],), (one,))[1]
    torch.testing.assert_close(forwards, torch.func.grad(value)(HYPER["beta"]), rtol=1e-6, atol=0)


def test_the_tape_reaches_layers_below_though_no_gradient_passes_between_them():
    solver, weights = made(), tiny.weights()
    weights["layers.0.weight"].requires_grad_()
    state = solver.step(solver.init(weights, HYPER, BATCH(0)), HYPER, BATCH(0))
    assert all(w.requires_grad for n, w in state.weights.items() if n != "layers.0.bias")
    way = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def head(sign):
        moved = {**tiny.weights(), "layers.0.weight": weights["layers.0.weight"].detach() + sign * 1e-6 * way}
        return solver.step(solver.init(moved, HYPER, BATCH(0)), HYPER, BATCH(0)).weights["layers.2.weight"].sum()

    derivative = torch.autograd.grad(state.weights["layers.2.weight"].sum(), weights["layers.0.weight"])[0]
    torch.testing.assert_close((derivative * way).sum(), (head(1) - head(-1)) / 2e-6, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("readout", ["head", "assigned"])
def test_replicas_at_once(readout):
    solver, starts = made(readout=readout), [tiny.weights(seed) for seed in range(3)]
    stacked = {n: torch.stack([w[n] for w in starts]) for n in starts[0]}
    sigmas = tiny.tensor(2.0, 3.0, 4.0)

    def predicts(weights, sigma):
        return dict(solver.readout(trained(solver, weights, {**HYPER, "sigma": sigma})))

    together = torch.vmap(predicts)(stacked, sigmas)
    for i, (weights, sigma) in enumerate(zip(starts, sigmas, strict=True)):
        for n, w in predicts(weights, sigma).items():
            torch.testing.assert_close(together[n][i], w, rtol=1e-8, atol=1e-9)


def test_the_plain_network_does_what_the_standardised_one_does():
    """On the very rows that the figures are from."""
    solver = made()
    weights = trained(solver)
    a = WHOLE.inputs
    for i in range(2):
        a = F.linear(a, weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"])
        a = torch.tanh((a - a.mean(0)) / torch.sqrt(a.var(0, correction=0) + 1e-5))
    expected = F.linear(a, weights["layers.2.weight"], weights["layers.2.bias"])
    torch.testing.assert_close(through(chain(), solver.readout(weights), WHOLE.inputs), expected)


def test_figures_come_from_rows_evenly_spaced():
    weights, few = tiny.weights(), WHOLE._replace(inputs=WHOLE.inputs[::3], targets=WHOLE.targets[::3])
    found = made(rows=20).readout(weights)
    for n, w in HSIC(chain(), F.cross_entropy, few).readout(weights).items():
        assert torch.equal(found[n], w)


def test_units_are_handed_to_the_classes_they_stand_for():
    """One layer that copies permuted indicators: the plain network must undo the permutation."""
    classes = torch.arange(200) % 7
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    train = Batch(-1, indicators(classes, 7, torch.zeros(0)), classes)
    solver = HSIC(chain(sizes=[7, 7]), F.cross_entropy, train, readout="assigned")
    weights = {"layers.0.weight": torch.eye(7)[order], "layers.0.bias": torch.zeros(7)}
    outputs = through(chain(sizes=[7, 7]), solver.readout(weights), train.inputs)
    assert (outputs.argmax(1) == classes).all()
    torch.testing.assert_close(outputs.var(0, correction=0).sqrt(), torch.full((7,), SHARPNESS), rtol=1e-3, atol=0)


@pytest.mark.parametrize("readout", ["head", "assigned"])
def test_it_learns_classes(readout):
    train = tiny.part(1, 400)
    solver = HSIC(chain(), F.cross_entropy, train, readout=readout)
    hyper = {"learning_rate": tiny.tensor(0.01), "head_rate": tiny.tensor(0.5)}
    weights = solver.readout(trained(solver, hyper=hyper, steps=80, batch=tiny.batches(train, 50)))
    assert (through(chain(), weights, OTHER.inputs).argmax(1) == OTHER.targets).double().mean() >= 0.8


def test_it_learns_numbers():
    def product(part):
        return part._replace(targets=(part.inputs[:, 0] * part.inputs[:, 1])[:, None])

    train, other, sizes = product(tiny.part(1, 400)), product(OTHER), [6, 20, 20, 1]
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for i, (into, out) in enumerate(pairwise(sizes)):
        weights[f"layers.{i}.weight"] = torch.randn(out, into, generator=generator, dtype=torch.float64) / into**0.5
        weights[f"layers.{i}.bias"] = torch.zeros(out, dtype=torch.float64)
    solver = HSIC(chain("relu", sizes), F.mse_loss, train)
    found = trained(solver, weights, {"learning_rate": tiny.tensor(0.01)}, 80, tiny.batches(train, 50))
    loss = F.mse_loss(through(chain("relu", sizes), solver.readout(found), other.inputs), other.targets)
    assert loss < 0.2 * other.targets.var(0)


def test_figures_about_a_state():
    solver = made(readout="assigned")
    state = solver.init(tiny.weights(), HYPER, BATCH(0))
    before = solver.logs(state, HYPER, BATCH(0))
    after = solver.logs(run(solver, state, {**HYPER, "beta": tiny.tensor(100.0)}, BATCH, 0, 60), HYPER, BATCH(0))
    assert before.keys() == {f"nhsic_{kind}.{i}" for kind in "xy" for i in range(3)}
    for i in range(3):
        assert 0 < before[f"nhsic_y.{i}"] < after[f"nhsic_y.{i}"] < 2


def test_what_is_not_given_has_a_default():
    given = {"learning_rate": tiny.tensor(0.01)}
    ranges = HSIC.hyperparameters
    whole = given | {name: tiny.tensor(ranges[name].default) for name in ("sigma", "beta", "head_rate")}
    for n, w in trained(made(), hyper=given).items():
        assert torch.equal(w, trained(made(), hyper=whole)[n])


def test_no_graph_without_need():
    state = made().init(tiny.weights(), HYPER, BATCH(0))
    assert not any(x.requires_grad for x in leaves(made().step(state, HYPER, BATCH(0))))


def test_wide_kernels_want_float64():
    def start(dtype, **hyper):
        weights = {n: w.to(dtype) for n, w in tiny.weights().items()}
        values = {n: torch.tensor(x, dtype=dtype) for n, x in hyper.items()}
        return made(scales=(1.0,)).init(weights, values, BATCH(0)._replace(inputs=BATCH(0).inputs.to(dtype)))

    with pytest.raises(ValueError, match=r"width 60 \(sigma × scale\) differs from a constant.*50, or use float64"):
        start(torch.float32, sigma=60.0)
    start(torch.float32, sigma=50.0)
    start(torch.float32)
    start(torch.float64, sigma=60.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "best"}, "readout 'best' must be head or assigned"),
        ({"rows": 1}, "rows 1 must be 2 or more"),
        ({"scales": ()}, r"scales \[\] must be one or more numbers above 0"),
        ({"scales": (1.0, 0.0)}, r"scales \[1.0, 0.0\] must be"),
        (
            {"readout": "assigned", "scales": (1.0, 2.0)},
            "readout 'assigned' takes one scale, not 2: use readout 'head'",
        ),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_numbers_have_no_units_to_assign():
    with pytest.raises(ValueError, match="'assigned' needs classes, and the targets are numbers"):
        HSIC(chain(), F.mse_loss, WHOLE._replace(targets=WHOLE.inputs[:, :2]), readout="assigned")


def test_networks_that_do_not_fit():
    *hidden, last = chain()
    with pytest.raises(ValueError, match=r"fully connected last stage without activation, and .*layers\.1"):
        HSIC(tuple(hidden), F.cross_entropy, WHOLE)
    with pytest.raises(ValueError, match=r"mean of each unit into its bias, and the stage of w has none: give it one"):
        HSIC((dense("w", None, "relu"), last), F.cross_entropy, WHOLE)
