"""The HSIC bottleneck (Ma, Lewis, Kleijn 2020): each layer has a loss of its own, and nothing is backpropagated.

    layer l:   minimise  nHSIC(Z_l, X) − β nHSIC(Z_l, Y) + ½ Σ r·w²  =  ⟨R_{Z_l}, M⟩ + ½ Σ r·w²       M = R_X − β R_Y

A step is one sweep from the inputs up: Z_l = stage(W_l, Z_{l−1}), one step of descent on W_l alone, Z_l again from the
new W_l, on to the next layer. No gradient passes between layers; the sweep as a whole can be differentiated.

A fully connected stage is trained with its units standardised over the minibatch, before the activation. The network
that predicts has nothing of the kind, since `readout` puts the statistics of training rows into W and b. Other stages
are taken as they are. With several `scales` s the units of every hidden layer fall into as many groups, side by side,
which see nothing of one another, each trained with kernels of width s·σ; the last stage reads all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from solvers.assignment import assignment
from solvers.chain import ACTIVATIONS, Chain, Stage
from solvers.criteria import Criterion
from solvers.independence import dependence, indicators, slope
from solvers.pullback import pullback
from solvers.ranges import INITIAL_SCALE, L2, LEARNING_RATE, Range
from solvers.solver import Batch, Solver, penalty, required, scaled
from solvers.standardised import diagonal, folded, joined, split, standardised
from solvers.vectors import Tensors, transformed

WIDEST = 50.0
SHARPNESS = 2.0
"""What assigned units, of variance 1, are multiplied by to be the logits of a cross-entropy."""


class HSICState(NamedTuple):
    """The weights, by name."""

    weights: Tensors


class HSIC(Solver[HSICState]):
    """W_l ← W_l − learning_rate·(∂⟨R_{Z_l}, M⟩/∂W_l + r·W_l), from the first layer to the last. Cost: `evaluations`.

    `readout`: what becomes of the last stage, which must be fully connected without an activation.
    "head": it is trained on `criterion`, from the features below it and no further, at `head_rate`.
    "assigned": it is trained as the others, with a ReLU; its units are handed to the classes so that most training rows
    are right (the paper's unformatted training), and multiplied by `SHARPNESS`. For classes only. With some initial
    weights a class is coded by all units at rest, and is lost: 3 of 8 seeds on MNIST.

    `scales`: a kernel width for each group of units, in units of σ, whose range they narrow. `rows`: of how many
    training rows, evenly spaced, `readout` takes its statistics.

    Hyperparameters: `learning_rate` (any grain; the head takes none of it), `head_rate`, `sigma` (σ, in units of √d of
    a layer's width d, for X and Y, too), `beta`, `l2` (global … weight), `initial_scale` (global, layer).

    Raises ValueError for options and for networks that do not fit.
    """

    hyperparameters: Mapping[str, Range] = {
        "l2": L2._replace(in_loss=False),  # where it ends is no stationary point of the network's own loss
        "learning_rate": LEARNING_RATE._replace(low=1e-4, high=1e-1, default=1e-2, auto="global"),
        "head_rate": Range(1e-3, 1.0, 0.1, auto="global"),
        "sigma": Range(1.0, 20.0, 5.0, limits=(1e-3, WIDEST), auto="global"),
        "beta": Range(50.0, 2500.0, 200.0, auto="global"),
        "initial_scale": INITIAL_SCALE,
    }
    evaluations = 7.0
    """In steps of SGD: three layers of 50 units take 7, two of 128 take 4, six of 1,024 take 1.5."""

    def __init__(
        self,
        chain: Chain,
        criterion: Criterion,
        train: Batch,
        *,
        readout: Literal["head", "assigned"] = "head",
        scales: tuple[float, ...] = (1.0,),
        rows: int = 10_000,
    ) -> None:
        _check(chain, train, readout, scales, rows)
        self.criterion, self.scales = criterion, scales
        *self.hidden, self.last = chain
        self.head = readout == "head"
        kinds = [stage.dense.activation if stage.dense else None for stage in self.hidden]
        trained = [*zip(self.hidden, kinds, strict=True), *([] if self.head else [(self.last, "relu")])]
        self.trained = tuple(
            standardised(stage, kind, len(scales) if i else 1) if kind else stage
            for i, (stage, kind) in enumerate(trained)
        )
        stride = -(-len(train.targets) // rows)
        self.rows = Batch(-1, train.inputs[::stride], train.targets[::stride])
        self.readout_rows = len(self.rows.targets)
        sigma, widest = HSIC.hyperparameters["sigma"], WIDEST / max(scales)
        narrowed = {"sigma": sigma._replace(high=min(sigma.high, widest), default=min(sigma.default, widest))}
        rest = {n: r for n, r in HSIC.hyperparameters.items() if self.head or n != "head_rate"}
        self.hyperparameters = rest | narrowed

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> HSICState:
        """The weights, zero between groups.

        Raises ValueError for a width that the groups do not divide, a minibatch of one row, and for σ above 50 in less
        than float64.
        """
        if len(batch.inputs) < 2:
            raise ValueError("a kernel of dependence needs minibatches of 2 rows or more, not 1: raise batch_size")
        start, groups = scaled(weights, hyper), len(self.scales)
        _refuse_wide(self._sigma(hyper, batch))
        for i, stage in enumerate(self.hidden if groups > 1 else ()):
            weight = start[stage.names[0]]
            if len(weight) % groups:
                raise ValueError(
                    f"the {len(weight)} units of {stage.names[0]} do not fall into {groups} groups of one size: "
                    "give a width that the number of scales divides"
                )
            if i:
                blocks = diagonal(weight, groups).movedim(0, -1)
                start[stage.names[0]] = torch.diag_embed(blocks, dim1=0, dim2=2).reshape(weight.shape)
        return HSICState(start)

    def step(self, state: HSICState, hyper: Tensors, batch: Batch) -> HSICState:
        """One sweep; raises KeyError if a weight has no learning rate."""
        weights, pull = dict(state.weights), pullback(state.weights, hyper, batch)
        sigma = self._sigma(hyper, batch)
        x, y = self._dependence(batch, sigma, weights)
        bottleneck = x - self._value("beta", hyper, batch) * y

        def descent(features: Tensor) -> Tensor:
            return joined(slope(split(features, len(sigma)), bottleneck, sigma)).reshape(features.shape)

        inputs = batch.inputs
        for stage in self.trained:
            slopes = pull(stage, weights, inputs, descent)
            rates = {n: required(hyper, "learning_rate", n, batch.index) for n in stage.names}
            weights |= _moved(weights, slopes, rates, hyper, batch.index)
            inputs = stage.forward(weights, inputs)
        if self.head:
            last, targets = self.last, batch.targets
            loss = last._replace(forward=lambda w, a: self.criterion(last.forward(w, a), targets))
            slopes = pull(loss, weights, inputs, torch.ones_like)
            rates = dict.fromkeys(last.names, self._value("head_rate", hyper, batch))
            weights |= _moved(weights, slopes, rates, hyper, batch.index)
        return HSICState(weights)

    def readout(self, weights: Tensors) -> dict[str, Tensor]:
        """The plain network's weights: the units standardised over `rows` training rows, one after the other stage.

        Cost: a forward pass over these rows.
        """
        found, inputs = dict(weights), self.rows.inputs
        for stage in self.hidden:
            if stage.dense:
                own, values = folded(stage, weights, inputs)
                found |= own
                inputs = ACTIVATIONS[stage.dense.activation](values)
            else:
                inputs = stage.forward(weights, inputs)
        if not self.head:
            own, outputs = folded(self.last, weights, inputs)
            truth, choice = (indicators(c, outputs.shape[1], outputs) for c in (self.rows.targets, outputs.argmax(1)))
            units = assignment((truth.mT @ choice).long())
            found |= {n: SHARPNESS * w.index_select(0, units) for n, w in own.items()}
        return found

    def logs(self, state: HSICState, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
        """Of each trained stage, mean over groups: nHSIC(Z_l, X), and nHSIC(Z_l, Y), below K − 1 for K classes."""
        sigma = self._sigma(hyper, batch)
        x, y = self._dependence(batch, sigma, state.weights)
        found, inputs = {}, batch.inputs
        for i, stage in enumerate(self.trained):
            inputs = stage.forward(state.weights, inputs)
            z = dependence(split(inputs, len(sigma)), sigma)
            found[f"nhsic_x.{i}"], found[f"nhsic_y.{i}"] = ((z * other).sum((1, 2)).mean() for other in (x, y))
        return found

    def _dependence(self, batch: Batch, sigma: Tensor, weights: Tensors) -> tuple[Tensor, Tensor]:
        """R_X and R_Y at every width, `[groups, B, B]`; classes as rows of zeros and a one."""
        targets = batch.targets
        if not targets.is_floating_point():
            targets = indicators(targets, len(weights[self.last.names[0]]), batch.inputs)
        x, y = (dependence(rows.flatten(1), sigma) for rows in (batch.inputs, targets.reshape(len(targets), -1)))
        return x, y

    def _sigma(self, hyper: Tensors, batch: Batch) -> Tensor:
        """The kernel width of each group."""
        sigma = self._value("sigma", hyper, batch)
        return torch.stack([s * sigma for s in self.scales])

    def _value(self, name: str, hyper: Tensors, batch: Batch) -> Tensor:
        value = hyper.get(name)
        return batch.inputs.new_tensor(self.hyperparameters[name].default) if value is None else value


def _check(chain: Chain, train: Batch, readout: str, scales: tuple[float, ...], rows: int) -> None:
    if readout not in ("head", "assigned"):
        raise ValueError(f"readout {readout!r} must be head or assigned")
    if not scales or not all(0 < s < inf for s in scales):
        raise ValueError(f"scales {list(scales)} must be one or more numbers above 0")
    if rows < 2:
        raise ValueError(f"rows {rows} must be 2 or more, to have a variance")
    if readout == "assigned" and len(scales) > 1:
        raise ValueError(f"readout 'assigned' takes one scale, not {len(scales)}: use readout 'head'")
    if readout == "assigned" and train.targets.is_floating_point():
        raise ValueError("readout 'assigned' needs classes, and the targets are numbers: use readout 'head'")
    *hidden, last = chain
    if last.dense is None or last.dense.activation != "identity":
        raise ValueError(f"HSIC needs a fully connected last stage without activation, and {_said(last)} is none")
    for stage in chain if readout == "assigned" else hidden:
        if stage.dense and stage.dense.bias is None:
            raise ValueError(f"HSIC puts the mean of each unit into its bias, and {_said(stage)} has none: give it one")
        if stage.dense is None and len(scales) > 1:
            raise ValueError(f"HSIC divides fully connected stages only, and {_said(stage)} is none: use one scale")


def _said(stage: Stage) -> str:
    return f"the stage of {', '.join(stage.names)}"


def _refuse_wide(sigma: Tensor) -> None:
    """Where values may be looked at, and have no more digits than float32."""
    if transformed(sigma) or sigma.dtype == torch.float64:
        return
    widest = float(sigma.detach().max())
    if widest > WIDEST:
        raise ValueError(
            f"HSIC: a kernel of width {widest:g} (sigma × scale) differs from a constant by about 1/{widest:g}², and "
            f"ε = 1e-5 and rounding to float32 take most of that away: stay below {WIDEST:g}, or use float64"
        )


def _moved(weights: Tensors, slopes: Tensors, rates: Tensors, hyper: Tensors, index: int) -> dict[str, Tensor]:
    """w − rate·(slope + r·w), for the weights that have a slope."""
    found = {}
    for name, g in slopes.items():
        w = weights[name]
        r = penalty(hyper, name, w, index)
        found[name] = torch.addcmul(w, rates[name], g if r is None else torch.addcmul(g, r, w), value=-1)
    return found
