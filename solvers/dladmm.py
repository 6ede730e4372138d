"""dlADMM (Wang, Yu, Chen, Zhao, KDD 2019): a perceptron trained without backpropagation, by alternating minimisation.

Activations a_l and pre-activations z_l of all N training rows are unknowns beside the weights, tied together by the
augmented Lagrangian of `solvers.lagrangian`. A step is a sweep over its blocks, each with all others held:

    l = L … 1:  a_l (not a_L), z_l, b_l, W_l
    l = 1 … L:  W_l, b_l, z_l, a_l (not a_L)        then  u ← u + ρ(z_L − W_L a_{L−1} − b_L)

z and b are always minimised exactly. For W and a, `block` has the choice:

    exact         the minimiser, by a factorisation of order n_{l−1} (W) or min(n_l, n_{l+1}) (a)
    line-search   a step along the slope, to the lowest point (with an l2 strength: at most)
    paper         the published step, 1/θ with θ doubled from 1 until it is short enough: at ν = ρ = 1e-6 the curvature
                  is far below 1, and the hidden weights do not move
    auto          exact where the order is at most 1,500, line-search elsewhere

With z_L exact, u = −∇R(z_L) after every step. For ρ > 2H, H the Lipschitz constant of ∇R (½ for cross-entropy, 2/D for
squared error), L falls at every step. Its minima are not those of the loss: a − f(z) stays, as long as ν is finite. The
minimiser z jumps where both sides of its kink are as good: a hypergradient is exact between two such jumps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from solvers.chain import ACTIVATIONS, Chain, layers
from solvers.criteria import Criterion, closed
from solvers.lagrangian import PENALTY, DLADMMState, figures, lagrangian, linear
from solvers.output_block import proximal
from solvers.ranges import INITIAL_SCALE, L2, Range
from solvers.solver import Batch, Solver, scaled
from solvers.sweep import LEAKS, Block, Sweep
from solvers.vectors import Tensors, leaves

EVALUATIONS: dict[Block, float] = {"auto": 3.5, "exact": 3.5, "line-search": 4.5, "paper": 4.5}
"""By processor time: 3.3 to 4.3 and 3.8 to 4.5 on 5,000 rows and two hidden layers of 50 to 1,000 units. Counted in
products, 10 or 11 with each hidden layer's matrix and 3 to 6 with the first, where a gradient has 3 and 2."""


class DLADMM(Solver[DLADMMState]):
    """Dense layers with relu or leaky_relu, the last one linear; cross-entropy or squared error; always all rows.

    Hyperparameters: `l2` (global … weight; a value for each weight costs a factorisation for each unit), `nu`, `rho`
    (one value each, 0.1 if not given), `initial_scale` (global, layer).
    Cost of a step: `EVALUATIONS`, about 4 gradient evaluations on all rows. Memory of a state, besides the
    weights: N(2 Σ hidden widths + 2 outputs) numbers and the square of the input width; a recorded step keeps six to
    seven times as much.
    Raises ValueError for another stage, activation or criterion, for layers that share weights, and for an unknown
    `block`.
    """

    hyperparameters: Mapping[str, Range] = {
        "l2": L2._replace(in_loss=False),  # where it ends is no stationary point of the network's own loss
        "nu": PENALTY,
        "rho": PENALTY,
        "initial_scale": INITIAL_SCALE,
    }
    whole = True

    def __init__(self, chain: Chain, criterion: Criterion, *, block: Block = "auto") -> None:
        self.layers, self.output = layers(chain, "dladmm"), closed(criterion, "dladmm")
        for layer in self.layers[:-1]:
            if layer.activation not in LEAKS:
                raise ValueError(
                    f"dladmm has no closed form for {layer.weight}'s activation {layer.activation}: "
                    f"use {' or '.join(LEAKS)}"
                )
        if self.layers[-1].activation != "identity":
            raise ValueError(
                f"dladmm needs a linear last layer, and {self.layers[-1].weight} has activation "
                f"{self.layers[-1].activation}: leave it out"
            )
        if len({layer.weight for layer in self.layers}) < len(self.layers):
            raise ValueError("dladmm trains each layer for itself, and two of these share their weights")
        if block not in EVALUATIONS:
            raise ValueError(f"block {block!r} must be one of {', '.join(EVALUATIONS)}")
        self.block: Block = block
        self.evaluations = EVALUATIONS[block]
        self._nearest = proximal(self.output)

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> DLADMMState:
        """a and z of a forward pass, u = 0. (z_L needs no start: the first sweep finds it before anything reads it.)"""
        weights, x = scaled(weights, hyper), batch.inputs.flatten(1)
        a, z, inputs = dict[str, Tensor](), dict[str, Tensor](), x
        for layer in self.layers:
            z[layer.weight] = linear(layer, weights, inputs)
            a[layer.weight] = inputs = ACTIVATIONS[layer.activation](z[layer.weight])
        del a[self.layers[-1].weight]
        return DLADMMState(weights, a, z, torch.zeros_like(inputs), x.T @ x)

    def step(self, state: DLADMMState, hyper: Tensors, batch: Batch) -> DLADMMState:
        """One sweep. Raises ValueError if the batch has other than the state's rows."""
        if len(batch.inputs) != len(state.u):
            raise ValueError(
                f"step {batch.index}: dladmm keeps activations of {len(state.u)} rows and was given "
                f"{len(batch.inputs)}: give every step all training rows, in one order"
            )
        return self.sweep(state, hyper, batch).run()

    def sweep(self, state: DLADMMState, hyper: Tensors, batch: Batch) -> Sweep:
        """A sweep before its first block."""
        return Sweep(self.layers, self._nearest, self.block, state, hyper, batch)

    def logs(self, state: DLADMMState, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
        """See `lagrangian.figures`; after the steps that led to `state`. Cost: two forward passes."""
        return figures(self.layers, self.output, state, hyper, batch)

    def change(self, before: DLADMMState, after: DLADMMState, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
        """What a step did: `descent` L before − L after, and `monotone`, 1 where that is no less than 0; `step`, the
        sum of squares of all blocks' steps, u's not counted; for each matrix `movement.NAME`, ‖ΔW‖/‖W‖.
        """
        values = [lagrangian(self.layers, self.output, state, hyper, batch) for state in (before, after)]
        pairs = zip(leaves(before[:3]), leaves(after[:3]), strict=True)
        found = {
            "descent": values[0] - values[1],
            "monotone": (values[0] >= values[1]).double(),
            "step": torch.stack([(y - x).double().square().sum() for x, y in pairs]).sum(),
        }
        for layer in self.layers:
            w = before.weights[layer.weight]
            moved = torch.linalg.vector_norm(after.weights[layer.weight] - w)
            found[f"movement.{layer.weight}"] = moved / torch.linalg.vector_norm(w)
        return found
