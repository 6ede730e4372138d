"""The augmented Lagrangian of dlADMM (Wang, Yu, Chen, Zhao 2019, Problem 2), over all N training rows at once:

    L = R(z_L; y) + N Σ_l ½ Σ r·W_l² + (ν/2) Σ_{l<L} (‖z_l − W_l a_{l−1} − b_l‖² + ‖a_l − f_l(z_l)‖²)
          + ⟨u, e⟩ + (ρ/2)‖e‖² ,          e = z_L − W_L a_{L−1} − b_L ,  a_0 = x

R is the sum over rows, N times the mean that solvers report, which is why the l2 strengths are multiplied by N.
Samples are rows: a_l, z_l `[N, n_l]`, W_l `[n_l, n_{l−1}]`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from solvers.chain import ACTIVATIONS, Dense
from solvers.criteria import OutputLoss
from solvers.ranges import Range
from solvers.solver import Batch, penalty, setting
from solvers.vectors import Tensors

PENALTY = Range(1e-6, 10.0, 0.1, limits=(1e-12, float("inf")), auto="global")
"""ν and ρ."""


class DLADMMState(NamedTuple):
    """`weights` by name; the hidden activations `a` and all `z`, each by the name of its layer's matrix; the multiplier
    `u` `[N, n_L]`; `gram` = xᵀx of the inputs, which never changes.
    """

    weights: Tensors
    a: Tensors
    z: Tensors
    u: Tensor
    gram: Tensor


def stiffness(layers: tuple[Dense, ...], hyper: Tensors, like: Tensor, index: int) -> list[Tensor]:
    """What multiplies ½‖z_l − W_l a_{l−1} − b_l‖²: ν for hidden layers, ρ for the last."""
    found = []
    for layer in layers:
        name = "rho" if layer is layers[-1] else "nu"
        value = setting(hyper, name, layer.weight, index)
        found.append(like.new_tensor(PENALTY.default) if value is None else value)
    return found


def linear(layer: Dense, weights: Tensors, inputs: Tensor) -> Tensor:
    """W a + b of each row."""
    return F.linear(inputs, weights[layer.weight], None if layer.bias is None else weights[layer.bias])


def residuals(layers: tuple[Dense, ...], state: DLADMMState, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """z_l − W_l a_{l−1} − b_l of all layers and a_l − f_l(z_l) of the hidden ones."""
    equations, activations = [], []
    inputs = batch.inputs.flatten(1)
    for layer in layers:
        name = layer.weight
        equations.append(state.z[name] - linear(layer, state.weights, inputs))
        if name in state.a:
            inputs = state.a[name]
            activations.append(inputs - ACTIVATIONS[layer.activation](state.z[name]))
    return equations, activations


def lagrangian(layers: tuple[Dense, ...], loss: OutputLoss, state: DLADMMState, hyper: Tensors, batch: Batch) -> Tensor:
    """L, summed in float64, a scalar. Cost: a forward pass."""
    rows, last = len(state.u), layers[-1].weight
    output = state.z[last].double()
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    value = rows * loss.value(output, targets)
    for name, w in state.weights.items():
        r = penalty(hyper, name, w, batch.index)
        if r is not None:
            value = value + rows / 2 * (r.double() * w.double().square()).sum()
    equations, activations = residuals(layers, state, batch)
    c = stiffness(layers, hyper, state.u, batch.index)
    for each, strength in zip([*equations, *activations], [*c, *c[:-1]], strict=True):
        value = value + strength.double() / 2 * each.double().square().sum()
    return value + (state.u.double() * equations[-1].double()).sum()


def slope(layers: tuple[Dense, ...], loss: OutputLoss, state: DLADMMState, batch: Batch) -> Tensor:
    """∇R(z_L) `[N, n_L]`, which is −u after every sweep (Lemma B.2)."""
    return len(state.u) * loss.local(state.z[layers[-1].weight], batch.targets).slope


def figures(
    layers: tuple[Dense, ...], loss: OutputLoss, state: DLADMMState, hyper: Tensors, batch: Batch
) -> dict[str, Tensor]:
    """`lagrangian`; `residual` ‖e‖; `multiplier` max|u + ∇R(z_L)|; for each matrix NAME `equation.NAME`, the norm of
    z − W a − b, and for the hidden ones `activation.NAME`, that of a − f(z): neither goes to 0 while ν is finite.
    """
    equations, activations = residuals(layers, state, batch)
    found = {
        "lagrangian": lagrangian(layers, loss, state, hyper, batch),
        "residual": torch.linalg.vector_norm(equations[-1]),
        "multiplier": (state.u + slope(layers, loss, state, batch)).abs().amax(),
    }
    for layer, each in zip(layers, equations, strict=True):
        found[f"equation.{layer.weight}"] = torch.linalg.vector_norm(each)
    for layer, each in zip(layers[:-1], activations, strict=True):
        found[f"activation.{layer.weight}"] = torch.linalg.vector_norm(each)
    return found
