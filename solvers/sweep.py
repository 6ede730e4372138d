"""A sweep of dlADMM under way: the blocks of each layer, updated one at a time from all others as they are now."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from solvers import block_descent
from solvers.chain import ACTIVATIONS, Dense
from solvers.lagrangian import DLADMMState, stiffness
from solvers.output_block import Proximal
from solvers.solver import Batch, penalty
from solvers.vectors import Tensors

Block = Literal["auto", "exact", "line-search", "paper"]

WIDEST = 1500
"""Order of the largest system that `auto` solves."""

LEAKS = {"relu": 0.0, "leaky_relu": 0.01}
"""The slope below 0 of the activations whose z has a closed form."""


class Sweep:
    """Layers are numbered from 0; `inputs[k]` go into layer k, so that `inputs[0]` = x and `inputs[k + 1]` = a_k.

    The state given is not changed; `state` is the one as it has become.
    """

    def __init__(
        self,
        layers: tuple[Dense, ...],
        output: Proximal,
        block: Block,
        state: DLADMMState,
        hyper: Tensors,
        batch: Batch,
    ) -> None:
        self.layers, self.output, self.block = layers, output, block
        self.hyper, self.batch = hyper, batch
        self.stiffness = stiffness(layers, hyper, state.u, batch.index)
        self.weights = dict(state.weights)
        self.inputs = [batch.inputs.flatten(1), *(state.a[layer.weight] for layer in layers[:-1])]
        self.z = [state.z[layer.weight] for layer in layers]
        self.u, self.gram = state.u, state.gram
        self._products: list[Tensor | None] = [None] * len(layers)

    @property
    def state(self) -> DLADMMState:
        names = [layer.weight for layer in self.layers]
        a = dict(zip(names[:-1], self.inputs[1:], strict=True))
        return DLADMMState(self.weights, a, dict(zip(names, self.z, strict=True)), self.u, self.gram)

    def run(self) -> DLADMMState:
        """Backwards through the layers, forwards again, and the multiplier."""
        last = len(self.layers) - 1
        for k in range(last, -1, -1):
            if k < last:
                self.update_a(k)
            self.update_z(k)
            self.update_b(k)
            self.update_w(k)
        for k in range(last + 1):
            if k > 0 or not self._solves(len(self.gram)):  # at the turn the minimiser would be found twice
                self.update_w(k)
            self.update_b(k)
            self.update_z(k)
            if k < last:
                self.update_a(k)
        self.update_u()
        return self.state

    def update_a(self, k: int) -> None:
        """The activations of hidden layer k."""
        ahead, a = k + 1, self.inputs[k + 1]
        w, f = self.weights[self.layers[ahead].weight], ACTIVATIONS[self.layers[k].activation](self.z[k])
        target, tie = self._target(ahead), self.stiffness[k] / self.stiffness[ahead]
        if self._solves(min(w.shape)):
            self.inputs[ahead] = block_descent.solved_activations(a, f, w, target, tie)
        else:
            misfit = target - self._product(ahead)
            unit = self.stiffness[ahead] if self.block == "paper" else None
            self.inputs[ahead] = block_descent.descended_activations(a, f, w, misfit, tie, unit)
        self._products[ahead] = None

    def update_z(self, k: int) -> None:
        """z of layer k, exactly."""
        m = self._product(k)
        bias = self._bias(k)
        if bias is not None:
            m = m + bias
        if k == len(self.layers) - 1:
            self.z[k] = self.output(m - self.u / self.stiffness[k], self.batch.targets, self.stiffness[k])
        else:
            self.z[k] = block_descent.hidden(m, self.inputs[k + 1], LEAKS[self.layers[k].activation])

    def update_b(self, k: int) -> None:
        """The bias of layer k, if it has one, exactly."""
        name, bias = self.layers[k].bias, self._bias(k)
        if name is not None and bias is not None:
            best = (self._target(k) + bias - self._product(k)).mean(dim=0)
            r = penalty(self.hyper, name, bias, self.batch.index)
            self.weights[name] = best if r is None else best / (1 + r / self.stiffness[k])

    def update_w(self, k: int) -> None:
        """The weights of layer k."""
        name, c = self.layers[k].weight, self.stiffness[k]
        w, inputs, misfit = self.weights[name], self.inputs[k], self._target(k) - self._product(k)
        r = penalty(self.hyper, name, w, self.batch.index)
        ridge = None if r is None else len(inputs) / c * r
        gram = self.gram if k == 0 else None
        if self._solves(w.shape[1]):
            gram = inputs.T @ inputs if gram is None else gram
            self.weights[name] = block_descent.solved_weights(w, inputs, misfit, ridge, gram)
        else:
            unit = c if self.block == "paper" else None
            self.weights[name] = block_descent.descended_weights(w, inputs, misfit, ridge, gram, unit)
        self._products[k] = None

    def update_u(self) -> None:
        """The multiplier of the last layer: −∇R(z_L), as z_L is its block's minimiser."""
        last = len(self.layers) - 1
        missing = self._target(last) - self._product(last)  # z − W a − b + u/ρ
        self.u = self.stiffness[last] * missing

    def _solves(self, order: int) -> bool:
        return self.block == "exact" or (self.block == "auto" and order <= WIDEST)

    def _bias(self, k: int) -> Tensor | None:
        name = self.layers[k].bias
        return None if name is None else self.weights[name]

    def _target(self, k: int) -> Tensor:
        """What W a should be: z − b, and u/ρ more in the last layer."""
        target, bias = self.z[k], self._bias(k)
        if k == len(self.layers) - 1:
            target = target + self.u / self.stiffness[k]
        return target if bias is None else target - bias

    def _product(self, k: int) -> Tensor:
        """W a of layer k, computed once for as long as both stay."""
        found = self._products[k]
        if found is None:
            found = self._products[k] = self.inputs[k] @ self.weights[self.layers[k].weight].T
        return found
