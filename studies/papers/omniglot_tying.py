"""Which layers of which tasks should share weights? (Maclaurin, Duvenaud, Adams 2015, section 3.3.)

    python studies/papers/omniglot_tying.py matrices exact     # at the root of the project, with HPO_DATA set
    python studies/papers/omniglot_tying.py fidelity           # the first derivative of each method against exact's

Ten tasks, each to name the characters of an alphabet from Omniglot: five alphabets, and the same turned by 90 degrees.
Ten networks of one shape are trained together, their weights w a mixture of z, a matrix T_l `[10, 10]` for each layer l:

    w_l[i] = Σ_j T_l[i, j] z_l[j]          minimised: mean over tasks of loss(w[i]), and e⁻⁴ Σ z² / 10

With T = 1 the tasks are separate, with all entries 1/10 they are one. T is moved by 0.2 against the derivative of the
validation loss, each time from a new split, 10 training and 2 validation drawings of each character, and from new z₀.
At the end z is trained once more, on all 12, and tested on 3 others. What T may become:

    matrices  300 numbers                   strength  1 number c, T_l = (1 − c) 1 + c/10 in every layer
    alike     6: every pair of tasks        diagonal  30: nothing shared, but a scale for each network's layer
              tied alike, in each layer
    separate, tied-bottom, tied             nothing: fixed (the paper's own control is tied in the bottom layer alone)

T stands in the validation loss itself: the derivative has a direct part, at the trained z, besides that through the
training. `direct` is that part alone, without a reverse pass.
"""

from __future__ import annotations

import argparse
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
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

TASKS, CLASSES, HYPER_RATE = 10, 55, 0.2
# the paper's v ← 0.9 v − 0.1 ∇, w ← w + 1.0 v, on the sum of the tasks' losses and e⁻⁴ Σ z²
HELD = {"learning_rate": TASKS * 1.0 * (1 - 0.9), "momentum": 0.9, "l2": 2 * exp(-4) / TASKS}

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("exact", {}),
    "implicit": ("implicit", {}),
    "truncated": ("truncated", {"steps": 10}),
    "chord": ("drmad", {"knots": 2, "steps": 10}),
}


class Networks(NamedTuple):
    """A tanh perceptron for each task; weights `[task, in, out]`, biases `[task, 1, out]`."""

    sizes: tuple[int, ...]
    characters: tuple[int, ...]

    def drawn(self, generator: Generator, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """z₀, normal with deviation e⁻²."""
        shapes = {
            f"{layer}.{kind}": (len(self.characters), rows, after)
            for layer, (before, after) in enumerate(pairwise(self.sizes))
            for kind, rows in (("weight", before), ("bias", 1))
        }
        return {n: exp(-2) * torch.randn(shape, generator=generator, dtype=dtype) for n, shape in shapes.items()}

    def forward(self, weights: Tensors, inputs: Tensor) -> Tensor:
        """Inputs `[N, pixels]`, task by task and as many of each character, to outputs `[N, classes]`."""
        parts = list(self.tasks(inputs))
        last = len(self.sizes) - 2
        for layer in range(last + 1):
            of_tasks = zip(weights[f"{layer}.bias"].unbind(), parts, weights[f"{layer}.weight"].unbind(), strict=True)
            parts = [torch.addmm(*task) if layer == last else torch.addmm(*task).tanh() for task in of_tasks]
        return torch.cat(parts)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the tasks of the mean over a task's rows."""
        losses = F.cross_entropy(outputs, targets, reduction="none")
        return torch.stack([task.mean() for task in self.tasks(losses)]).mean()

    def tasks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Split by task."""
        each = len(rows) // sum(self.characters)
        return rows.split([each * count for count in self.characters])


def tied(z: Tensors, tying: Tensors) -> dict[str, Tensor]:
    """w = T z, layer by layer, weights and biases."""
    return {name: (tying[f"tying.{name.split('.')[0]}"] @ x.flatten(1)).view(x.shape) for name, x in z.items()}


def blend(*strengths: float) -> dict[str, Tensor]:
    """T_l = (1 − c) 1 + c/10 for each layer's strength c: 0 separate, 1 tied."""
    return {f"tying.{i}": (1 - c) * torch.eye(TASKS) + c / TASKS for i, c in enumerate(strengths)}


def alike(tying: Tensors) -> dict[str, Tensor]:
    """The nearest matrices with one number on the diagonal and one off it."""
    found = {}
    for name, x in tying.items():
        n, on = len(x), x.trace() / len(x)
        off = (x.sum() - x.trace()) / (n * n - n)
        found[name] = off + (on - off) * torch.eye(n, dtype=x.dtype)
    return found


def along_strength(tying: Tensors) -> dict[str, Tensor]:
    """The part along dT/dc, all layers together."""
    way = {n: (1 / len(x) - torch.eye(len(x), dtype=x.dtype)) for n, x in tying.items()}
    share = flatten(tying) @ flatten(way) / flatten(way).square().sum()
    return {n: share * x for n, x in way.items()}


LEARNT: dict[str, tuple[dict[str, Tensor], Callable[[Tensors], Tensors]]] = {
    "matrices": (blend(0.5, 0.5, 0.5), lambda slopes: slopes),
    "alike": (blend(0.5, 0.5, 0.5), alike),
    "strength": (blend(0.5, 0.5, 0.5), along_strength),
    "diagonal": (blend(0, 0, 0), lambda slopes: {n: x.diagonal().diag() for n, x in slopes.items()}),
}
"""Where a descent starts, and the part of a derivative it may follow."""
FIXED = {"separate": blend(0, 0, 0), "tied-bottom": blend(1, 0, 0), "tied": blend(1, 1, 1)}


def training(networks: Networks, tying: Tensors, part: Batch, validation: Batch, steps: int) -> Training:
    """Full batches; what is trained is z."""
    return Training(
        SGD(lambda z, hyper, batch: networks.loss(networks.forward(tied(z, hyper), batch.inputs), batch.targets)),
        lambda z, inputs: networks.forward(tied(z, tying), inputs),
        networks.loss,
        lambda t: part._replace(index=t),
        steps,
        part,
        validation,
        held=tuple(HELD),
    )


def settings(tying: Tensors) -> dict[str, Tensor]:
    """Everything the solver and its loss read."""
    like = next(iter(tying.values()))
    return {**{name: like.new_tensor(value) for name, value in HELD.items()}, **tying}


def derivative(inner: Training, networks: Networks, z: Tensors, tying: Tensors, method: str) -> dict[str, Tensor]:
    """Of the validation loss by T: the direct part and, but for `direct`, the part through the training."""
    if method == "direct":
        final, through = train(inner, z, settings(tying)).weights, {name: 0.0 for name in tying}
    else:
        name, options = METHODS[method]
        result = hypergradient(name, inner, z, settings(tying), **options)
        final, through = result.weights, result.gradient
    knobs = {name: x.detach().requires_grad_() for name, x in tying.items()}
    outputs = networks.forward(tied(final, knobs), inner.validation.inputs)
    direct = torch.autograd.grad(networks.loss(outputs, inner.validation.targets), list(knobs.values()))
    return {name: (x + through[name]).to(x) for name, x in zip(knobs, direct, strict=True)}


def drawing(png: bytes) -> np.ndarray:
    """1 where there is ink, `[105, 105]`, from a PNG of one bit a pixel with unfiltered rows, as Omniglot's all are."""
    data, at = b"", 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(105, 15)
    return 1 - np.unpackbits(rows[:, 1:], axis=1)[:, :105]


def read(path: Path, side: int, alphabets: int = 5, drawings: int = 15) -> tuple[Tensor, tuple[int, ...]]:
    """Images `[characters of all tasks, drawings, side²]` less their mean, and each task's number of characters."""
    with zipfile.ZipFile(path) as file:
        found: dict[str, dict[str, list[np.ndarray]]] = {}
        for name in sorted(file.namelist()):
            _, alphabet, character, _ = name.split("/")
            if alphabet in found or len(found) < alphabets:
                drawn = found.setdefault(alphabet, {}).setdefault(character, [])
                if len(drawn) < drawings:
                    drawn.append(drawing(file.read(name)))
    images = torch.from_numpy(np.stack([np.stack(x) for each in found.values() for x in each.values()])).float()
    small = F.adaptive_avg_pool2d(images, side)
    both = torch.cat([small, small.rot90(dims=(2, 3))]).flatten(2)
    return both - both.mean(dim=(0, 1)), tuple(len(each) for each in found.values()) * 2


def partition(images: Tensor, first: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """`first` drawings of every character, drawn at random, and the others."""
    order = torch.rand(images.shape[:2], generator=generator).argsort(dim=1)
    shuffled = images.take_along_dim(order[:, :, None], dim=1)
    return shuffled[:, :first], shuffled[:, first:]


def labels(characters: tuple[int, ...], generator: Generator) -> Tensor:
    """The output that stands for each character, at random; the same one for its turned copy."""
    once = torch.cat([torch.randperm(CLASSES, generator=generator)[:n] for n in characters[: len(characters) // 2]])
    return once.repeat(2)


def rows(images: Tensor, classes: Tensor) -> Batch:
    """One row for each drawing."""
    return Batch(0, images.flatten(0, 1), classes.repeat_interleave(images.shape[1]))


def likeness(tying: Tensors, characters: tuple[int, ...]) -> str:
    """Mean correlation T Tᵀ between tasks, by layer: an alphabet and its turned copy; alphabets that lie the same way;
    the others.
    """
    half = len(characters) // 2
    task = torch.arange(2 * half)
    copy = (task[:, None] % half == task % half) & (task[:, None] != task)
    along = (task[:, None] // half == task // half) & (task[:, None] != task)
    lines = []
    for name, x in tying.items():
        c = F.normalize(x) @ F.normalize(x).T
        lines.append(f"{name} {c[copy].mean():.2f} {c[along].mean():.2f} {c[~copy & ~along & (c < 1)].mean():.2f}")
    return "; ".join(lines)


class Experiment(NamedTuple):
    """One seed: which drawings are tested, and the numbers of steps."""

    networks: Networks
    learning: Tensor
    testing: Tensor
    classes: Tensor
    seed: int
    steps: int = 50

    def generator(self, number: int) -> Generator:
        """For the draws of meta-iteration `number`."""
        return torch.Generator().manual_seed(1000 * self.seed + number)

    def first(self, number: int, tying: Tensors) -> tuple[Training, dict[str, Tensor]]:
        """The training of a meta-iteration, and its z₀."""
        generator = self.generator(number)
        part, validation = (rows(x, self.classes) for x in partition(self.learning, 10, generator))
        return training(self.networks, tying, part, validation, self.steps), self.networks.drawn(generator)

    def learnt(self, form: str, method: str, iterations: int) -> dict[str, Tensor]:
        """T after a descent."""
        tying, allowed = LEARNT[form]
        for i in range(1, iterations + 1):
            inner, z = self.first(i, tying)
            slopes = allowed(derivative(inner, self.networks, z, tying, method))
            tying = {name: x - HYPER_RATE * slopes[name] for name, x in tying.items()}
        return tying

    def judged(self, tying: Tensors) -> tuple[float, float, float]:
        """Training loss, test loss and test error of a training on all but the test drawings."""
        part, test = rows(self.learning, self.classes), rows(self.testing, self.classes)
        inner = training(self.networks, tying, part, test, self.steps)
        with torch.no_grad():
            z = train(inner, self.networks.drawn(self.generator(0)), settings(tying)).weights
            outputs = inner.forward(z, test.inputs)
            wrong = self.networks.tasks((outputs.argmax(dim=1) != test.targets).float())
            error = torch.stack([x.mean() for x in wrong]).mean()
            trained = self.networks.loss(inner.forward(z, part.inputs), part.targets)
            return float(trained), float(self.networks.loss(outputs, test.targets)), float(error)


def fidelity(experiment: Experiment) -> None:
    """Each method's first derivative against exact's: cosine, share of equal signs, length, seconds."""
    start = LEARNT["matrices"][0]
    inner, z = experiment.first(1, start)
    exact = None
    for method in ("exact", *METHODS, "direct"):
        begun = perf_counter()
        found = flatten(derivative(inner, experiment.networks, z, start, method))
        exact = found if exact is None else exact
        cosine = F.cosine_similarity(found, exact, dim=0)
        signs = (found.sign() == exact.sign()).float().mean()
        print(f"{method:10s} {cosine:6.3f} {signs:5.2f} {found.norm() / exact.norm():6.2f} {perf_counter() - begun:5.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=[*LEARNT, *FIXED, "fidelity"])
    parser.add_argument("method", nargs="?", default="exact", choices=[*METHODS, "direct"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[784, 400, 200, CLASSES])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HPO_DATA"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images, characters = read(Path(asked.data_dir) / "omniglot_10_alphabets.zip", round(asked.sizes[0] ** 0.5))
    networks = Networks(tuple(asked.sizes), characters)
    for seed in range(asked.seeds):
        generator = torch.Generator().manual_seed(seed)
        experiment = Experiment(networks, *partition(images, 12, generator), labels(characters, generator), seed)
        if asked.form == "fidelity":
            fidelity(experiment)
            continue
        begun = perf_counter()
        learnt = asked.form in LEARNT
        tying = experiment.learnt(asked.form, asked.method, asked.iterations) if learnt else FIXED[asked.form]
        trained, test, error = experiment.judged(tying)
        print(f"{asked.form} {asked.method if learnt else ''} seed {seed}: train {trained:.3f}, test {test:.3f}, "
              f"error {100 * error:.1f} %, {perf_counter() - begun:.0f} s; {likeness(tying, characters)}", flush=True)


if __name__ == "__main__":
    main()
