"""Any nn.Module by import path, as a plain function of its trainable parameters.

A training is replayed, forwards and backwards, so the forward pass must be a function of weights and inputs alone: a
module that draws random numbers or changes its buffers is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from hpo.failures import BadStudy
from hpo.problems.imported import called, imported, said
from hpo.problems.network import Network
from hpo.problems.sequential import chain
from hpo.space import Weight
from solvers.vectors import Tensors

KEY = "problem.model"

LOPSIDED = 0.01
"""How far xᵀHy and yᵀHx may differ, in lengths of Hx: rounding is far below, a wrong kernel far above."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def module(path: str, sample: Tensor, outputs: int, seed: int, device: str) -> tuple[Network, dict[str, Tensor]]:
    """The network that `package.module:function` makes, and its initial weights, which follow from the seed.

    The function is called as function(input_shape, outputs) if it requires two positional arguments, else with none.
    `sample` `[B, …]` are a few rows on the CPU to try it on. Frozen parameters and buffers are constants.
    Raises BadStudy: an import path or a call that fails, no module, no trainable parameter or one that the outputs do
    not depend on, outputs that are not `[B, outputs]`, a forward pass that is random or changes buffers or inputs.
    """
    with torch.random.fork_rng(devices=[]):
        arguments = _arguments(path, tuple(sample.shape[1:]), outputs)  # imports the file, which may draw or seed
        torch.default_generator.manual_seed(seed)
        made = called(KEY, path, *arguments)
        if not isinstance(made, nn.Module):
            raise BadStudy(f"{KEY}: {path} returned {type(made).__name__}: return a torch.nn.Module")
        made.float().cpu()
        _refuse_by_name(path, made)
        _try(path, made, sample, outputs)  # gives lazy layers their shapes, too
        stages = chain(made, sample)
    made.to(device)
    layout = tuple(_layout(made))
    parameters = dict(made.named_parameters())
    weights = {w.name: parameters[w.name].detach().clone() for w in layout}

    def forward(weights: Tensors, inputs: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the other attention kernels have no second derivative
            return functional_call(made, dict(weights), (inputs,))

    constants = {n: p.detach() for n, p in parameters.items() if not p.requires_grad} | dict(made.named_buffers())
    return Network(forward, layout, constants, stages), weights


def _arguments(path: str, shape: tuple[int, ...], outputs: int) -> tuple[object, ...]:
    """What the user's function is called with. Raises BadStudy if it requires anything else."""
    function = imported(KEY, path)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise BadStudy(f"{KEY}: {path} does not say what it takes: name a function of your own") from error
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if required and (len(required) != 2 or any(p.kind is p.KEYWORD_ONLY for p in required)):
        names = ", ".join(p.name for p in required)
        raise BadStudy(f"{KEY}: {path} requires ({names}): it must take (input_shape, outputs) or nothing")
    return (shape, outputs) if required else ()


def _refuse_by_name(path: str, made: nn.Module) -> None:
    """The well-known layers that cannot be replayed, each with its remedy."""
    for name, layer in made.named_modules():
        if isinstance(layer, _DropoutNd) and layer.training and layer.p > 0:
            fault, remedy = f"drops units at random (p={layer.p:g})", "leave it out"
        elif isinstance(layer, _NormBase) and layer.training and layer.track_running_stats:
            fault, remedy = "keeps running statistics", "use GroupNorm or LayerNorm"
        else:
            continue
        raise BadStudy(
            f"{KEY}: {path}: layer {name or 'itself'!r} ({type(layer).__name__}) {fault}, "
            f"so a training could not be replayed: {remedy}"
        )


def _try(path: str, made: nn.Module, sample: Tensor, outputs: int) -> None:
    """Runs the module on a few rows. Raises BadStudy as `module` says."""
    try:
        made(sample.clone())
        buffers = {name: buffer.clone() for name, buffer in made.named_buffers()}
        inputs = sample.clone()
        first, second = made(inputs), made(sample.clone())
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise BadStudy(f"{KEY}: {path} fails on inputs of shape {tuple(sample.shape)}: {said(error)}") from error
    shape = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
    if shape != (len(sample), outputs):
        raise BadStudy(f"{KEY}: {path} gives {shape} for {len(sample)} rows: expected shape {(len(sample), outputs)}")
    changed = [name for name, buffer in made.named_buffers() if not _same(buffer, buffers[name])]
    if changed:
        raise BadStudy(
            f"{KEY}: {path} changes its buffer {changed[0]!r} in the forward pass, so a training could not be "
            "replayed: keep no state there"
        )
    if not _same(inputs, sample):
        raise BadStudy(f"{KEY}: {path} changes its inputs in place: use the out-of-place form of its first layer")
    if not _same(first, second):
        raise BadStudy(
            f"{KEY}: {path} gives different outputs for the same inputs, so a training could not be replayed: "
            "leave out what is random (dropout inside attention or recurrent layers, noise)"
        )
    _refuse_idle(path, made, first)
    _refuse_lopsided(path, made, sample)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _refuse_idle(path: str, made: nn.Module, outputs: Tensor) -> None:
    """Every trainable parameter must have a gradient, and there must be some."""
    trainable = {name: p for name, p in made.named_parameters() if p.requires_grad}
    if not trainable:
        raise BadStudy(f"{KEY}: {path} has no trainable parameter: return a module with some")
    slopes = [None] * len(trainable)
    if outputs.requires_grad:
        slopes = torch.autograd.grad(outputs.sum(), list(trainable.values()), allow_unused=True)
    idle = [name for name, slope in zip(trainable, slopes, strict=True) if slope is None]
    if idle:
        raise BadStudy(
            f"{KEY}: {path}: the outputs do not depend on parameter {idle[0]!r}: use it, remove it, "
            "or freeze it with requires_grad_(False)"
        )


def _refuse_lopsided(path: str, made: nn.Module, sample: Tensor) -> None:
    """A matrix of second derivatives is symmetric; where a kernel's is not, no hypergradient would be right.

    torch 2.13 has one such, that of weight_norm. Missing second derivatives are named by the pass that needs them.
    """
    points = [p for p in made.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(0)
    x, y = ([torch.randn(p.shape, generator=generator) for p in points] for _ in range(2))
    try:
        with sdpa_kernel(SDPBackend.MATH):
            value = made(sample.clone()).square().sum()
            slopes = torch.autograd.grad(value, points, create_graph=True)
            bent = [torch.autograd.grad(slopes, points, v, retain_graph=True, materialize_grads=True) for v in (x, y)]
    except RuntimeError:
        return
    one, two = (sum(float((a * b).sum()) for a, b in zip(h, v, strict=True)) for h, v in zip(bent, (y, x), strict=True))
    size = max(float(torch.cat([a.reshape(-1) for a in h]).norm()) for h in bent)
    if abs(one - two) > LOPSIDED * size:
        raise BadStudy(
            f"{KEY}: {path}: the second derivative is not symmetric, a fault of one of torch's kernels (as of "
            "weight_norm), so hypergradients would be wrong: leave that layer out"
        )


def _layout(made: nn.Module) -> Iterator[Weight]:
    """Each trainable parameter once, in the order of `named_parameters`, with the axes of its units."""
    layers = dict(made.named_modules())
    for name, parameter in made.named_parameters():
        if parameter.requires_grad:
            layer = name.rpartition(".")[0]
            outgoing, incoming = _axes(layers[layer], parameter)
            yield Weight(name, tuple(parameter.shape), layer, outgoing, incoming)


def _axes(layer: nn.Module, parameter: Tensor) -> tuple[int | None, int | None]:
    """(outgoing, incoming) axis: a linear layer is `[out, in]`; elsewhere a unit is an output channel or a row."""
    if parameter.dim() < 2:
        return None, 0 if parameter.dim() else None
    if isinstance(layer, nn.Linear):
        return 1, 0
    return (1, 1) if isinstance(layer, TRANSPOSED) else (0, 0)
