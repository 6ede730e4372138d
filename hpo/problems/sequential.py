"""An nn.Sequential as a chain of stages, for the solvers that train stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from solvers.chain import Chain, Stage, dense
from solvers.vectors import Tensors

Child = tuple[str, nn.Module]


def chain(made: nn.Module, sample: Tensor) -> Chain | None:
    """A stage for each child with trainable parameters, with the parameterless ones after it (and those before the
    first); a plain nn.Sequential inside counts as its children. None: the module is none, or children share parameters.

    A linear layer with one activation of `solvers.chain.ACTIVATIONS` is a dense stage, if that does the same on
    `sample` `[B, …]`.
    """
    if type(made) is not nn.Sequential or len(list(made.parameters())) != sum(len(list(c.parameters())) for c in made):
        return None
    groups: list[list[Child]] = []
    for name, child in _children(made):
        opens = any(p.requires_grad for p in child.parameters())
        if not groups or (opens and _trainable(groups[-1])):
            groups.append([])
        groups[-1].append((name, child))
    weights, stages = dict(made.named_parameters()), list[Stage]()
    with torch.no_grad():
        inputs = sample.clone()
        for group in groups:
            plain, flat = _stage(group), _dense(group)
            outputs = plain.forward(weights, inputs)
            stages.append(flat if flat and _same(flat, weights, inputs, outputs) else plain)
            inputs = outputs
    return tuple(stages)


def _children(made: nn.Sequential, prefix: str = "") -> Iterator[Child]:
    for name, child in made.named_children():
        if type(child) is nn.Sequential:
            yield from _children(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _same(stage: Stage, weights: Tensors, inputs: Tensor, outputs: Tensor) -> bool:
    """Whether the stage does on these inputs what was expected: a linear layer may act on the last of many axes."""
    if inputs.flatten(1).shape[1] != weights[stage.names[0]].shape[1]:
        return False
    found = stage.forward(weights, inputs)
    return found.shape == outputs.shape and torch.allclose(found, outputs, rtol=1e-5, atol=1e-6)


def _trainable(group: Sequence[Child]) -> tuple[str, ...]:
    return tuple(f"{name}.{inner}" for name, c in group for inner, p in c.named_parameters() if p.requires_grad)


def _stage(group: Sequence[Child]) -> Stage:
    names = _trainable(group)

    def forward(weights: Tensors, inputs: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the other attention kernels have no second derivative
            for name, child in group:
                own = {n.removeprefix(f"{name}."): weights[n] for n in names if n.startswith(f"{name}.")}
                inputs = functional_call(child, own, (inputs,))
        return inputs

    return Stage(names, forward)


def _dense(group: Sequence[Child]) -> Stage | None:
    """The group as a dense stage, if it is linear with at most one known activation after it."""
    rest = [(name, child) for name, child in group if not isinstance(child, nn.Flatten | nn.Identity)]
    if not 1 <= len(rest) <= 2 or type(rest[0][1]) is not nn.Linear:
        return None
    (name, linear), *activation = rest
    kind = _activation(activation[0][1]) if activation else "identity"
    if kind is None or not all(p.requires_grad for p in linear.parameters()):
        return None
    return dense(f"{name}.weight", None if linear.bias is None else f"{name}.bias", kind)


def _activation(child: nn.Module) -> str | None:
    if isinstance(child, nn.LeakyReLU):
        return "leaky_relu" if child.negative_slope == 0.01 else None
    if isinstance(child, nn.GELU):
        return "gelu" if child.approximate == "none" else None
    if isinstance(child, nn.Softplus):
        return "softplus" if (child.beta, child.threshold) == (1, 20) else None
    return {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}.get(type(child))
