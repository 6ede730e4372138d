"""The HSIC bottleneck on MNIST and its relatives (Ma, Lewis, Kleijn 2020), with the authors' settings.

    python studies/papers/hsic/reproduce.py unformatted        # at the root of the project, with HPO_DATA set

    unformatted    7 layers, the last of 10 units that are handed to the classes; no head (figure 4)
    epochs         a linear head on the features after 1 and 5 epochs of HSIC (figure 5a)
    widths         the same for layers of 8, 32 and 64 units (figure 6a)
    sigmas         kernels of width 1, 5 and 10, the mean of the three networks, and all side by side (figure 6b)
    residual       a residual convolutional network, on a cut (figure 7)

As there: rows in the order of the files, weights and biases uniform within ±1/√in, l2 1e-3. Heads are trained on the
features of the finished network, whose units are standardised with figures of training rows.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from pathlib import Path
from time import process_time

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from hpo.problems.sources import load
from solvers.chain import Chain, Stage, dense, through
from solvers.hsic import HSIC, SHARPNESS
from solvers.sgd import SGD
from solvers.solver import Batch, Solver, run
from solvers.standardised import split
from solvers.vectors import Tensors

UNFORMATTED = {"mnist": 200.0, "fashion-mnist": 1000.0, "cifar10": 2500.0}
"""β of each data set."""


def parts(data: str, folder: Path | None, rows: int | None = None, tested: int | None = None) -> tuple[Batch, Batch]:
    """The first rows of the training and of the test file, inputs between 0 and 1."""
    found = load(data, folder)
    prepare = found.prepare(found.rows.inputs)
    assert found.test is not None
    both = [(found.rows, rows), (found.test, tested)]
    train, test = (
        Batch(-1, torch.from_numpy(prepare(p.inputs[:n])), torch.from_numpy(p.targets[:n]).long()) for p, n in both
    )
    return train, test


def in_turn(whole: Batch, size: int, t: int) -> Batch:
    """Minibatch t of rows in their order, epoch after epoch; the last of an epoch is what is left."""
    start = t % epoch(whole, size) * size
    return Batch(t, whole.inputs[start : start + size], whole.targets[start : start + size])


def epoch(whole: Batch, size: int) -> int:
    return -(-len(whole.targets) // size)


def layers(sizes: Sequence[int], generator: Generator) -> tuple[Chain, dict[str, Tensor]]:
    """Fully connected stages with ReLU, the last without, and their weights."""
    weights, chain = {}, list[Stage]()
    for i, (before, after) in enumerate(pairwise(sizes)):
        for name, shape in ((f"{i}.weight", (after, before)), (f"{i}.bias", (after,))):
            weights[name] = (2 * torch.rand(shape, generator=generator) - 1) / sqrt(before)
        chain.append(dense(f"{i}.weight", f"{i}.bias", "relu" if i < len(sizes) - 2 else "identity"))
    return tuple(chain), weights


def numbers(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def trained(
    solver: Solver, weights: Tensors, hyper: Tensors, whole: Batch, size: int, epochs: int, seen: Callable
) -> None:
    """`seen(epoch, weights, seconds of processor time)` after each epoch."""
    batches, steps = partial(in_turn, whole, size), epoch(whole, size)
    state, seconds = solver.init(weights, hyper, batches(0)), 0.0
    for number in range(1, epochs + 1):
        started = process_time()
        state = run(solver, state, hyper, batches, (number - 1) * steps, number * steps)
        seconds += process_time() - started
        seen(number, solver.readout(state.weights), seconds)


def accuracy(chain: Chain, weights: Tensors, test: Batch, size: int = 10_000) -> float:
    """% of rows, a chunk at a time."""
    with torch.no_grad():
        outputs = torch.cat([through(chain, weights, inputs) for inputs in test.inputs.split(size)])
    return 100 * (outputs.argmax(1) == test.targets).double().mean().item()


def heads(train: Batch, test: Batch, rate: float, size: int, generator: Generator, momentum: float = 0.0) -> str:
    """Test accuracy after 1 and 5 epochs of a linear layer on features that stay as they are."""
    chain, weights = layers([train.inputs.shape[1], 10], generator)
    hyper = numbers(learning_rate=rate, momentum=momentum, l2=1e-4 if momentum else 1e-3)
    found: list[float] = []
    solver = SGD(lambda w, _, batch: F.cross_entropy(through(chain, w, batch.inputs), batch.targets))
    trained(solver, weights, hyper, train, size, 5, lambda _, w, s: found.append(accuracy(chain, w, test)))
    return f"{found[0]:.2f} after 1 epoch of the head, {found[4]:.2f} after 5"


def nearest(chain: Chain, weights: Tensors, train: Batch, test: Batch) -> float:
    """% of rows whose outputs are nearest to the mean of their class over 10,000 training rows."""
    with torch.no_grad():
        seen, outputs = (through(chain, weights, part.inputs[:10_000]) for part in (train, test))
    means = torch.stack([seen[train.targets[:10_000] == c].mean(0) for c in range(outputs.shape[1])])
    return 100 * (torch.cdist(outputs, means).argmin(1) == test.targets).double().mean().item()


def features(chain: Chain, weights: Tensors, whole: Batch) -> Batch:
    """What the head is given."""
    with torch.no_grad():
        return whole._replace(inputs=through(chain[:-1], weights, whole.inputs))


def unformatted(arguments: argparse.Namespace, generator: Generator) -> None:
    train, test = parts(arguments.data, arguments.data_dir)
    chain, weights = layers([train.inputs[0].numel(), *[arguments.width] * 6, 10], generator)
    hyper = numbers(learning_rate=1e-3, l2=1e-3, sigma=6.0, beta=UNFORMATTED[arguments.data])

    def seen(number: int, w: Tensors, seconds: float) -> None:
        units = through(chain, w, test.inputs) / SHARPNESS
        loss = ", ".join(f"{F.cross_entropy(sharp * units, test.targets):.3f}" for sharp in (1, 2, 3, 4))
        said = f"test {accuracy(chain, w, test):.2f} %, by the nearest mean {nearest(chain, w, train, test):.2f} %"
        print(f"{arguments.data}, HSIC epoch {number}: {said}; loss of 1, 2, 3, 4 × units {loss}; {seconds:.0f} s")

    trained(
        HSIC(chain, F.cross_entropy, train, readout="assigned"), weights, hyper, train, 256, arguments.epochs or 2, seen
    )


def formatted(
    arguments: argparse.Namespace,
    generator: Generator,
    sizes: Sequence[int],
    rate: float,
    head: float,
    at: Sequence[int],
) -> None:
    """HSIC at `rate`, and at some of its epochs a head at `head`."""
    train, test = parts("mnist", arguments.data_dir)
    chain, weights = layers([784, *sizes, 10], generator)
    hyper = numbers(learning_rate=rate, head_rate=0.05, l2=1e-3, sigma=5.0, beta=50.0)

    def seen(number: int, w: Tensors, seconds: float) -> None:
        if number in at:
            both = [features(chain, w, part) for part in (train, test)]
            along = f"head trained along {accuracy(chain, w, test):.2f} %"
            after = heads(both[0], both[1], head, 256, generator)
            print(f"width {sizes[0]}, HSIC epoch {number}: {along}; trained after {after}; {seconds:.0f} s")

    trained(HSIC(chain, F.cross_entropy, train), weights, hyper, train, 256, max(at), seen)


def widths(arguments: argparse.Namespace, generator: Generator) -> None:
    for width in (8, 32, 64):
        formatted(arguments, generator, [width] * 7, 2e-4, 0.01, (5,))


def epochs(arguments: argparse.Namespace, generator: Generator) -> None:
    formatted(arguments, generator, [*[256] * 6, 128], 1e-4, 0.005, (1, 5))


def sigmas(arguments: argparse.Namespace, generator: Generator) -> None:
    """One block-diagonal network of three groups is the three networks of the paper."""
    train, test = parts("mnist", arguments.data_dir)
    chain, weights = layers([784, *[3 * 128] * 6, 3 * 64, 10], generator)
    for i in range(1, 7):  # as if each group had been drawn for itself: it sees a third of the inputs
        weights[f"{i}.weight"] = sqrt(3) * weights[f"{i}.weight"]
    hyper = numbers(learning_rate=1e-4, head_rate=0.05, l2=1e-3, sigma=1.0, beta=50.0)

    def seen(number: int, w: Tensors, seconds: float) -> None:
        if number < 5:
            return
        print(f"HSIC {seconds:.0f} s; head trained along {accuracy(chain, w, test):.2f} %")
        both = [features(chain, w, part) for part in (train, test)]
        groups = [split(part.inputs, 3) for part in both]
        for i, sigma in enumerate((1, 5, 10)):
            alone = [p._replace(inputs=g[i]) for p, g in zip(both, groups, strict=True)]
            print(f"sigma {sigma}: {heads(alone[0], alone[1], 0.004, 512, generator)}")
        mean, deviation = groups[0].mean(0).mean(0), groups[0].mean(0).std(0)
        means = [p._replace(inputs=(g.mean(0) - mean) / deviation) for p, g in zip(both, groups, strict=True)]
        print(f"mean of three, standardised: {heads(means[0], means[1], 0.004, 512, generator, momentum=0.9)}")
        print(f"side by side: {heads(both[0], both[1], 0.004, 512, generator)}")

    trained(HSIC(chain, F.cross_entropy, train, scales=(1.0, 5.0, 10.0)), weights, hyper, train, 512, 5, seen)


class Convolution(nn.Module):
    """relu(BN(conv)), and with a way around it relu(BN(x + relu(BN(conv x)))); 5 × 5, statistics of the minibatch."""

    def __init__(self, into: int, out: int, stride: int, around: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(into, out, 5, stride, padding=2 if around else 0)
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        y = self._normal(self.convolution(x)).relu()
        return self._normal(x + y).relu() if self.around else y

    def _normal(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True)


def stage(module: nn.Module, prefix: str) -> tuple[Stage, dict[str, Tensor]]:
    own = {f"{prefix}.{name}": p.detach().clone() for name, p in module.named_parameters()}

    def forward(weights: Tensors, inputs: Tensor) -> Tensor:
        return functional_call(module, {n.removeprefix(f"{prefix}."): weights[n] for n in own}, (inputs,))

    return Stage(tuple(own), forward), own


def residual(arguments: argparse.Namespace, generator: Generator) -> None:
    data = arguments.data
    train, test = parts(data, arguments.data_dir, arguments.rows, 2000)
    channels, side = train.inputs.shape[1], (train.inputs.shape[2] - 5) // 2 + 1
    torch.default_generator.manual_seed(generator.initial_seed())
    stages, weights = list[Stage](), dict[str, Tensor]()
    for i in range(6):
        made, own = stage(Convolution(64 if i else channels, 64, 1 if i else 2, i > 0), f"convolution.{i}")
        stages.append(made)
        weights |= own
    flat, more = layers([64 * side * side, 512, 10], generator)
    chain, weights = (*stages, *flat), weights | more
    hyper = numbers(learning_rate=0.01, head_rate=0.05, l2=1e-3, sigma=5.0, beta=200.0 if data == "mnist" else 500.0)
    solver = HSIC(chain, F.cross_entropy, train, rows=512)

    def seen(number: int, w: Tensors, seconds: float) -> None:
        print(f"epoch {number}: test {accuracy(chain, w, test, 500):.2f} %, {seconds:.0f} s", flush=True)

    print(f"start: test {accuracy(chain, solver.readout(weights), test, 500):.2f} %", flush=True)
    trained(solver, weights, hyper, train, 512, arguments.epochs or 2, seen)


WHAT = {f.__name__: f for f in (unformatted, epochs, widths, sigmas, residual)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Experiments of the HSIC bottleneck.")
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--data", choices=UNFORMATTED, default="mnist", help="for unformatted and residual")
    parser.add_argument("--epochs", type=int, help="of HSIC, for unformatted and residual (default: 2)")
    parser.add_argument("--width", type=int, default=1024, help="for unformatted")
    parser.add_argument("--rows", type=int, default=5000, help="training rows, for residual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HPO_DATA"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    WHAT[arguments.what](arguments, torch.Generator().manual_seed(arguments.seed))


if __name__ == "__main__":
    main()
