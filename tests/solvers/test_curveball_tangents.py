"""J v, Jᵀ u and the Gauss-Newton product against the Jacobian itself, for both ways of linearising."""

import pytest
import tiny
import torch
import torch.nn.functional as F

from solvers.chain import ACTIVATIONS, dense, layers, through
from solvers.criteria import SOFTMAX, SQUARES
from solvers.tangents import linearised, perceptron
from solvers.vectors import flatten, unflatten, zeros


def network(activation):
    chain = tuple(
        dense(f"layers.{i}.weight", None if i == 1 else f"layers.{i}.bias", "identity" if i == 2 else activation)
        for i in range(3)
    )
    return chain, {n: w for n, w in tiny.weights().items() if n != "layers.1.bias"}


def tangent(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(w.shape, generator=generator, dtype=w.dtype) for n, w in weights.items()}


def ways(chain):
    return {
        "automatic": lambda *given: linearised(lambda w, x: through(chain, w, x), *given),
        "by hand": lambda *given: perceptron(layers(chain, "this test"), *given),
    }


@pytest.mark.parametrize("way", ["automatic", "by hand"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_products_equal_those_of_the_jacobian(way, activation):
    chain, weights = network(activation)
    inputs, v, x = tiny.part(1, 7).inputs, tangent(weights, 3), tangent(weights, 4)
    outputs, moved, pull = ways(chain)[way](weights, inputs, v)
    flat = torch.func.jacrev(lambda w: through(chain, unflatten(w, weights), inputs).flatten())(flatten(weights))
    torch.testing.assert_close(outputs, through(chain, weights, inputs))
    torch.testing.assert_close(moved.flatten(), flat @ flatten(v))
    u = torch.sin(outputs) + moved
    slopes, push = pull(u, x)
    torch.testing.assert_close(flatten(slopes), flatten(x) + flat.t() @ u.flatten())
    torch.testing.assert_close(push(x).flatten(), flat @ flatten(x))
    assert not any(t.requires_grad for t in (outputs, moved, *slopes.values(), push(x) if way == "by hand" else moved))


@pytest.mark.parametrize("way", ["automatic", "by hand"])
@pytest.mark.parametrize("loss", [SOFTMAX, SQUARES], ids=["cross-entropy", "squared error"])
def test_the_gauss_newton_product_is_that_of_the_explicit_matrix(way, loss):
    """Jᵀ H J from the whole Jacobian and autograd's Hessian of the loss in the outputs."""
    chain, weights = network("tanh")
    rows, v = tiny.part(1, 9), tangent(weights, 3)
    targets = rows.targets if loss is SOFTMAX else torch.cos(rows.inputs[:, :3])
    outputs, moved, pull = ways(chain)[way](weights, rows.inputs, v)
    product = pull(loss.local(outputs, targets).bend(moved), zeros(weights)).total
    jacobian = torch.func.jacrev(lambda w: through(chain, unflatten(w, weights), rows.inputs).flatten())(
        flatten(weights)
    )
    hessian = torch.func.hessian(lambda z: loss.value(z.reshape(9, 3), targets))(outputs.flatten())
    torch.testing.assert_close(flatten(product), jacobian.t() @ hessian @ jacobian @ flatten(v))


@pytest.mark.parametrize("way", ["automatic", "by hand"])
def test_derivatives_of_the_products(way):
    """Everything that comes out, with respect to weights and v, against finite differences."""
    chain, weights = network("tanh")
    inputs, v, x = tiny.part(1, 4).inputs, tangent(weights, 3), tangent(weights, 4)

    def value(w, v):
        w, v = unflatten(w, weights), unflatten(v, weights)
        outputs, moved, pull = ways(chain)[way](w, inputs, v)
        bent = SOFTMAX.local(outputs, outputs.argmax(dim=1)).bend(moved)
        slopes, push = pull(bent + torch.sin(outputs), {n: x[n] * v[n] for n in v})
        pushed = push(slopes)
        return (flatten(slopes) ** 2).sum() + (pushed**3).sum() + (moved * outputs).sum()

    points = [flatten(g).requires_grad_() for g in (weights, v)]
    torch.autograd.gradcheck(value, points, rtol=1e-6, fast_mode=True)


@pytest.mark.parametrize("way", ["automatic", "by hand"])
def test_weights_of_their_own_and_shared_ones(way):
    """A weight that serves two stages gets both shares; one that serves none gets 0."""
    chain = (dense("square", "bias", "tanh"), dense("square", "bias"))
    generator = torch.Generator().manual_seed(0)
    weights = {"square": torch.randn(4, 4, generator=generator), "bias": torch.ones(4), "spare": torch.ones(2, 3)}
    inputs = torch.randn(5, 4, generator=generator)
    outputs, _, pull = ways(chain)[way](weights, inputs, tangent(weights, 1))
    slopes, _ = pull(outputs, zeros(weights))
    expected = torch.func.grad(lambda w: (through(chain, w, inputs) ** 2).sum() / 2)(weights)
    for n, slope in expected.items():
        torch.testing.assert_close(slopes[n], slope)
    assert not slopes["spare"].any()


def test_expanded_weights_under_vmap_and_without():
    """Weights that are the same for all replicas, or for all units, lie in memory once."""
    weights = {"w": torch.full((1, 1), 0.5).expand(2, 3)}
    inputs = torch.arange(6.0).reshape(2, 3)

    def moved(w, x):
        return linearised(lambda w, x: F.linear(x, w["w"]), {"w": w}, x, {"w": torch.ones_like(w)}).moved

    alone = moved(weights["w"], inputs)
    assert alone.tolist() == [[3, 3], [12, 12]]
    together = torch.vmap(moved)(weights["w"].expand(4, 2, 3), inputs.expand(4, 2, 3))
    assert torch.equal(together, alone.expand(4, 2, 2))


def test_outputs_that_depend_on_no_weight_are_refused():
    weights = {"w": torch.ones(2, 3)}
    with pytest.raises(ValueError, match="outputs depend on no weight"):
        linearised(lambda w, x: x, weights, torch.ones(4, 3), weights)
