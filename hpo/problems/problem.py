"""A problem the solvers can train: network, initial weights, minibatches, loss and the three full parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo.problems.dataset import Part
from hpo.problems.minibatches import Minibatches
from hpo.problems.module import module
from hpo.problems.network import Network, perceptron
from hpo.problems.sources import load
from hpo.problems.split import divide
from solvers.solver import Batch, Batches, Loss
from solvers.vectors import Tensors

if TYPE_CHECKING:
    from hpo import spec

SAMPLE = 4
"""Rows on which a module is tried."""

Criterion = Callable[[Tensor, Tensor], Tensor]


class Problem(NamedTuple):
    """Everything a training needs.

    `train`, `validation`, `test` are full parts (index −1): inputs float32 `[N, F]` or `[N, C, H, W]`; targets int64
    `[N]` for a classification, float32 `[N, D]` for a regression. `criterion(outputs, targets)` is the mean
    cross-entropy in nats, or the mean squared error in units of the training targets' variance;
    `loss(weights, hyper, batch)` is the criterion of the network's outputs on a batch, without any penalty.
    `columns`: the names of the inputs' columns, if they have names.
    """

    network: Network
    weights: dict[str, Tensor]
    batches: Batches
    loss: Loss
    criterion: Criterion
    train: Batch
    validation: Batch
    test: Batch
    task: str
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None = None


def build(spec: spec.Problem, batch_size: int, seed: int, data_dir: Path | None, device: str = "cpu") -> Problem:
    """The problem of a study file; split, minibatches and initial weights are functions of `seed` (0 or more).

    Raises BadData or BadStudy, in one line, for what cannot be loaded, split, built or learnt.
    """
    data = load(spec.data, data_dir, spec.task)
    *parts, columns = divide(data, spec.split, seed)
    train, validation, test = (_batch(part, device) for part in parts)
    if isinstance(spec.model, str):
        network, weights = module(spec.model, train.inputs[:SAMPLE].cpu(), data.outputs, seed, device)
    else:
        shape, model = train.inputs.shape[1:], spec.model
        network, weights = perceptron(shape, model.mlp, data.outputs, model.activation, seed)
    criterion: Criterion = F.cross_entropy if data.task == "classification" else F.mse_loss
    forward = network.forward

    def loss(weights: Tensors, hyper: Tensors, batch: Batch) -> Tensor:
        del hyper
        return criterion(forward(weights, batch.inputs), batch.targets)

    return Problem(
        network,
        {name: w.to(device) for name, w in weights.items()},
        Minibatches(train.inputs, train.targets, batch_size, seed),
        loss,
        criterion,
        train,
        validation,
        test,
        data.task,
        data.classes,
        columns,
    )


def _batch(part: Part, device: str) -> Batch:
    return Batch(-1, torch.as_tensor(part.inputs, device=device), torch.as_tensor(part.targets, device=device))
