"""A network linearised at its weights: J v, c + Jᵀ u for a u that depends on it, J x for an x that depends on both.

J = ∂outputs/∂weights. `linearised` takes any network by automatic differentiation: J v travels along with the forward
pass, Jᵀ u is recorded as a function of u, and J x is the derivative of that function (double backward; Townsend 2017).
`perceptron` does the same by hand for fully connected stages, a_l = f(x_l), x_l = a_{l−1} W_lᵀ + b_l:

    ȧ_l = f'(x_l) ∘ (a_{l−1} Ẇ_lᵀ + ȧ_{l−1} W_lᵀ + ḃ_l)
    δ_l = f'(x_l) ∘ (δ_{l+1} W_{l+1})          Jᵀu = (δ_lᵀ a_{l−1}, Σ δ_l) of each stage

Both can be differentiated once more, and run inside torch.func's transforms.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual

from solvers.chain import ACTIVATIONS, Dense
from solvers.vectors import Tensors, transformed

Forward = Callable[[Tensors, Tensor], Tensor]
"""(weights, inputs `[B, …]`) → outputs `[B, D]`."""


class Pulled(NamedTuple):
    """c + Jᵀ u by name, and x → J x, to be called once."""

    total: dict[str, Tensor]
    push: Callable[[Tensors], Tensor]


class Linearised(NamedTuple):
    """Outputs `[B, D]`, J v `[B, D]`, and (u `[B, D]`, c by name) → c + Jᵀ u."""

    outputs: Tensor
    moved: Tensor
    pull: Callable[[Tensor, Tensors], Pulled]


def linearised(forward: Forward, weights: Tensors, inputs: Tensor, v: Tensors) -> Linearised:
    """Of any network whose operations have forward derivatives and second ones, as torch's own do.

    What comes out has a graph exactly when grad mode is on and what went in requires grad. Raises ValueError if the
    outputs depend on no weight. Cost of it all, in gradient evaluations: 7/3.
    """
    _prepared()
    if transformed(*weights.values(), *v.values(), inputs):
        return _functional(forward, weights, inputs, v)
    record = _watched(weights) or _watched(v)
    weights = {n: w.contiguous() for n, w in weights.items()}  # a dual tensor must not be an expanded one
    with torch.enable_grad(), dual_level():
        points = {n: w if record and w.requires_grad else w.detach().requires_grad_() for n, w in weights.items()}
        along = {n: v[n] if record else v[n].detach() for n in points}
        outputs, moved = unpack_dual(forward({n: make_dual(w, along[n]) for n, w in points.items()}, inputs))
    if moved is None:
        raise ValueError("the network's outputs depend on no weight in a way that can be differentiated")

    def pull(u: Tensor, c: Tensors) -> Pulled:
        live = record or _watched({"u": u})
        with torch.enable_grad():
            u = u if live and u.requires_grad else u.detach().requires_grad_()
            found = torch.autograd.grad(outputs, list(points.values()), u, create_graph=True, materialize_grads=True)
        slopes = dict(zip(points, found, strict=True))

        def push(x: Tensors) -> Tensor:
            used = [n for n, s in slopes.items() if s.requires_grad]
            return torch.autograd.grad(
                [slopes[n] for n in used], u, [x[n] for n in used], create_graph=live or _watched(x)
            )[0]

        return Pulled({n: c[n] + (s if live else s.detach()) for n, s in slopes.items()}, push)

    return Linearised(outputs, moved, pull) if record else Linearised(outputs.detach(), moved.detach(), pull)


def _watched(values: Tensors) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in values.values())


@cache
def _prepared() -> None:
    """At its first forward derivative torch compiles some of them, by a part of itself that warns of its own end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.neg, (torch.zeros(()),), (torch.zeros(()),))


def _functional(forward: Forward, weights: Tensors, inputs: Tensor, v: Tensors) -> Linearised:
    def along(points: Tensors) -> Any:
        return torch.func.jvp(lambda w: forward(w, inputs), (points,), (dict(v),))

    found: Any = torch.func.vjp(
        along, {n: w.clone() for n, w in weights.items()}, has_aux=True
    )  # as `contiguous` above
    outputs, back, moved = found

    def pull(u: Tensor, c: Tensors) -> Pulled:
        found: Any = torch.func.vjp(lambda u: back(u)[0], u)
        slopes, push = found
        return Pulled({n: c[n] + s for n, s in slopes.items()}, lambda x: push(dict(x))[0])

    return Linearised(outputs, moved, pull)


Slope = Callable[[Tensor, Tensor], Tensor | None]

SLOPES: dict[str, Slope] = {
    "identity": lambda x, a: None,
    "relu": lambda x, a: (x > 0).to(x),
    "leaky_relu": lambda x, a: torch.where(x > 0, torch.ones_like(x), 0.01),
    "tanh": lambda x, a: 1 - a * a,
    "sigmoid": lambda x, a: a - a * a,
    "softplus": lambda x, a: torch.sigmoid(x),
    "gelu": lambda x, a: 0.5 + 0.5 * torch.erf(x / math.sqrt(2)) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi),
}
"""The derivatives of `chain.ACTIVATIONS` from their input and output; None is 1 throughout."""


def perceptron(layers: Sequence[Dense], weights: Tensors, inputs: Tensor, v: Tensors) -> Linearised:
    """Of fully connected stages: the same in plain tensor arithmetic."""
    below, slopes = list[Tensor](), list[Tensor | None]()
    a = inputs.flatten(1)
    for layer in layers:
        below.append(a)
        x = F.linear(a, weights[layer.weight], None if layer.bias is None else weights[layer.bias])
        a = ACTIVATIONS[layer.activation](x)
        slopes.append(SLOPES[layer.activation](x, a))

    def push(v: Tensors) -> Tensor:
        moved: Tensor | None = None
        for layer, a, slope in zip(layers, below, slopes, strict=True):
            x = F.linear(a, v[layer.weight], None if layer.bias is None else v[layer.bias])
            x = x if moved is None else torch.addmm(x, moved, weights[layer.weight].t())
            moved = x if slope is None else slope * x
        assert moved is not None
        return moved

    def pull(u: Tensor, c: Tensors) -> Pulled:
        total = dict(c)
        for number in range(len(layers) - 1, -1, -1):
            layer, slope = layers[number], slopes[number]
            u = u if slope is None else slope * u
            total[layer.weight] = torch.addmm(total[layer.weight], u.t(), below[number])
            if layer.bias is not None:
                total[layer.bias] = total[layer.bias] + u.sum(dim=0)
            if number:
                u = u @ weights[layer.weight]
        return Pulled(total, push)

    return Linearised(a, push(v), pull)
