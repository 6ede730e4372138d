"""Which layers of which tasks should share weights? (Maclaurin, Duvenaud, Adams 2015, section 3.3.)

    python studies/papers/omniglot_tying.py matrices exact     # at the root of the project, with HPO_DATA set

Ten tasks, each to name the characters of an alphabet: five of Omniglot's, and the same turned by 90 degrees. Ten
networks of one shape are trained together; their weights w are mixtures of z by a matrix T_l `[10, 10]` for each layer:

    w_l[i] = Σ_j T_l[i, j] z_l[j]          minimised over z: mean over tasks of loss(w[i]), and e⁻⁴ Σ z² / 10

With T = 1 the tasks are separate, with all entries 1/10 they are tied. T is moved by 0.2 against the derivative of the
validation loss, each time from a new split, 10 training and 2 validation drawings of each character, and a new z₀. At
the end z is trained once more, on all 12, and tested on 3 others. What T may become:

    matrices           300 numbers, each entry for itself
    strength           1 number c, T_l = (1 − c) 1 + c/10 in every layer
    diagonal           30 numbers: nothing shared, but a scale for each layer of each network
    separate, tied     fixed; tied as in the paper's "full sharing", which is that of the bottom layer

T stands in the validation loss itself: the derivative has a direct part, at the trained z, besides that through the
training. Method `direct` is that part alone, without a reverse pass.
"""

from __future__ import annotations

import argparse
import os
import struct
import zipfile
import zlib
from itertools import pairwise
from math import exp
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from hpo.hypergradients import Training, hypergradient
from hpo.hypergradients.training import train
from solvers.sgd import SGD
from solvers.solver import Batch
from solvers.vectors import Tensors, flatten

ALPHABETS, TASKS, CLASSES, DRAWINGS, HYPER_RATE = 5, 10, 55, 15, 0.2
# the paper's v ← 0.9 v − 0.1 ∇, w ← w + 1.0 v, on the sum over tasks of the loss, and e⁻⁴ Σ z²
HELD = {"learning_rate": TASKS * 1.0 * (1 - 0.9), "momentum": 0.9, "l2": 2 * exp(-4) / TASKS}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("exact", {}),
    "implicit": ("implicit", {}),
    "truncated": ("truncated", {"steps": 10}),
    "chord": ("drmad", {"knots": 2, "steps": 10}),
}


class Networks(NamedTuple):
    """A tanh perceptron for each task: layer sizes, and how many characters each task has."""

    sizes: tuple[int, ...]
    characters: tuple[int, ...]

    def drawn(self, generator: Generator) -> dict[str, Tensor]:
        """z₀, normal with deviation e⁻²: weights `[task, in, out]`, biases `[task, 1, out]`."""
        shapes = {
            f"{layer}.{kind}": (len(self.characters), rows, after)
            for layer, (before, after) in enumerate(pairwise(self.sizes))
            for kind, rows in (("weight", before), ("bias", 1))
        }
        return {n: exp(-2) * torch.randn(shape, generator=generator) for n, shape in shapes.items()}

    def forward(self, weights: Tensors, inputs: Tensor) -> Tensor:
        """Inputs `[N, pixels]`, task by task and as many of each character, to outputs `[N, classes]`."""
        parts, last = self.by_task(inputs), len(self.sizes) - 2
        for layer in range(last + 1):
            layers = zip(weights[f"{layer}.bias"].unbind(), parts, weights[f"{layer}.weight"].unbind(), strict=True)
            parts = [torch.addmm(*each) if layer == last else torch.addmm(*each).tanh() for each in layers]
        return torch.cat(parts)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the tasks of the mean over the rows of each."""
        losses = F.cross_entropy(outputs, targets, reduction="none")
        return torch.stack([each.mean() for each in self.by_task(losses)]).mean()

    def by_task(self, rows: Tensor) -> list[Tensor]:
        each = len(rows) // sum(self.characters)
        return list(rows.split([each * count for count in self.characters]))

    def training(self, hyper: Tensors, part: Batch, validation: Batch, steps: int) -> Training:
        """Of z, on full batches."""
        solver = SGD(lambda z, hyper, batch: self.loss(self.forward(tied(z, hyper), batch.inputs), batch.targets))

        def forward(z: Tensors, inputs: Tensor) -> Tensor:
            return self.forward(tied(z, hyper), inputs)

        return Training(solver, forward, self.loss, lambda t: part._replace(index=t), steps, part, validation, [*HELD])


def tied(z: Tensors, hyper: Tensors) -> dict[str, Tensor]:
    """w = T z, layer by layer, weights and biases; `hyper` has "tying.0", "tying.1" …"""
    return {name: (hyper[f"tying.{name.partition('.')[0]}"] @ x.flatten(1)).view(x.shape) for name, x in z.items()}


def blend(*strengths: float) -> dict[str, Tensor]:
    """T_l = (1 − c) 1 + c/10 for each layer's c, 0 separate and 1 tied; and all else that a training reads."""
    tying = {f"tying.{layer}": (1 - c) * torch.eye(TASKS) + c / TASKS for layer, c in enumerate(strengths)}
    return {**tying, **{name: torch.tensor(value) for name, value in HELD.items()}}


FIXED = {"separate": blend(0, 0, 0), "tied": blend(1, 0, 0)}
START = {"matrices": blend(0.5, 0.5, 0.5), "strength": blend(0.5, 0.5, 0.5), "diagonal": blend(0, 0, 0)}


def allowed(form: str, slopes: Tensors) -> dict[str, Tensor]:
    """The part of a derivative that T may follow: its projection."""
    if form == "diagonal":
        return {name: x.diagonal().diag() for name, x in slopes.items()}
    if form == "strength":
        way = {name: 1 / len(x) - torch.eye(len(x), dtype=x.dtype) for name, x in slopes.items()}
        share = flatten(slopes) @ flatten(way) / flatten(way).square().sum()
        return {name: share * x for name, x in way.items()}
    return dict(slopes)


def derivative(networks: Networks, inner: Training, z: Tensors, hyper: Tensors, method: str) -> dict[str, Tensor]:
    """Of the validation loss by T: the direct part and, but for `direct`, the part through the training."""
    knobs = {name: x.detach().requires_grad_() for name, x in inner.sought(hyper).items()}
    if method == "direct":
        final, through = train(inner, z, hyper).weights, dict.fromkeys(knobs, 0.0)
    else:
        name, options = METHODS[method]
        result = hypergradient(name, inner, z, hyper, **options)
        final, through = result.weights, result.gradient
    outputs = networks.forward(tied(final, knobs), inner.validation.inputs)
    direct = torch.autograd.grad(networks.loss(outputs, inner.validation.targets), list(knobs.values()))
    return {name: (x + through[name]).to(x) for name, x in zip(knobs, direct, strict=True)}


def drawing(png: bytes) -> np.ndarray:
    """1 where there is ink, `[105, 105]`, from a PNG of one bit a pixel with unfiltered rows, as all of Omniglot's."""
    data, at = b"", 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(105, 15)
    return 1 - np.unpackbits(rows[:, 1:], axis=1)[:, :105]


def read(path: Path, side: int) -> tuple[Tensor, tuple[int, ...]]:
    """The first five alphabets, 15 drawings a character, and the same turned: images less their mean `[characters of
    all tasks, 15, side²]`, and how many characters each task has.
    """
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    with zipfile.ZipFile(path) as file:
        for name in sorted(file.namelist()):
            _, alphabet, character, _ = name.split("/")
            if alphabet in found or len(found) < ALPHABETS:
                found.setdefault(alphabet, {}).setdefault(character, []).append(drawing(file.read(name)))
    images = np.stack([x[:DRAWINGS] for characters in found.values() for x in characters.values()])
    small = F.adaptive_avg_pool2d(torch.from_numpy(images).float(), side)
    both = torch.cat([small, small.rot90(dims=(2, 3))]).flatten(2)
    return both - both.mean(dim=(0, 1)), tuple(len(characters) for characters in found.values()) * 2


def partition(images: Tensor, first: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """`first` drawings of each character, drawn at random, and the others."""
    order = torch.rand(images.shape[:2], generator=generator).argsort(dim=1)
    shuffled = images.take_along_dim(order[:, :, None], dim=1)
    return shuffled[:, :first], shuffled[:, first:]


def labels(characters: tuple[int, ...], generator: Generator) -> Tensor:
    """The output that stands for each character, drawn at random; the same one for its turned copy."""
    return torch.cat([torch.randperm(CLASSES, generator=generator)[:n] for n in characters[:ALPHABETS]]).repeat(2)


def likeness(hyper: Tensors) -> str:
    """Mean correlation by T Tᵀ, layer by layer: an alphabet and its turned copy / two that lie alike / any others."""
    task = torch.arange(TASKS)
    copies, alike = task[:, None] % ALPHABETS == task % ALPHABETS, task[:, None] // ALPHABETS == task // ALPHABETS
    pairs = [copies & ~alike, alike & ~copies, ~alike & ~copies]
    correlations = [F.normalize(hyper[f"tying.{i}"]) @ F.normalize(hyper[f"tying.{i}"]).T for i in range(3)]
    return ", ".join("/".join(f"{c[pair].mean():.2f}" for pair in pairs) for c in correlations)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=[*START, *FIXED])
    parser.add_argument("method", nargs="?", default="exact", choices=[*METHODS, "direct"])
    parser.add_argument("--hidden", type=int, nargs=2, default=[400, 200])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HPO_DATA", "."))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images, characters = read(Path(asked.data_dir) / "omniglot_10_alphabets.zip", side=28)
    generator = torch.Generator().manual_seed(asked.seed)
    learning, testing = partition(images, 12, generator)
    outputs = labels(characters, generator)
    networks = Networks((784, *asked.hidden, CLASSES), characters)

    def prepared(hyper: Tensors, iteration: int) -> tuple[Training, dict[str, Tensor]]:
        """The training of a meta-iteration and its z₀; 0: the last one, on all but the test drawings."""
        generator = torch.Generator().manual_seed(1000 * asked.seed + iteration)
        both = partition(learning, 10, generator) if iteration else (learning, testing)
        part, other = (Batch(0, x.flatten(0, 1), outputs.repeat_interleave(x.shape[1])) for x in both)
        return networks.training(hyper, part, other, steps=50), networks.drawn(generator)

    begun, hyper = perf_counter(), {**FIXED, **START}[asked.form]
    for i in range(1, asked.iterations + 1 if asked.form in START else 1):
        slopes = allowed(asked.form, derivative(networks, *prepared(hyper, i), hyper, asked.method))
        hyper = {name: x - HYPER_RATE * slopes[name] if name in slopes else x for name, x in hyper.items()}
    inner, z = prepared(hyper, 0)
    z = train(inner, z, hyper).weights
    fitted, test = inner._replace(validation=inner.train).validation_loss(z), inner.validation_loss(z)
    print(f"train {fitted:.3f}, test {test:.3f}, {perf_counter() - begun:.0f} s; {likeness(hyper)}")


if __name__ == "__main__":
    main()
