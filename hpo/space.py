"""The search space: which hyperparameters, at which grain, between which bounds.

A study says `l2: {per: neuron, low: 1e-6, high: 1.0}`; resolved against a model this becomes a `Group`: a vector of
K values and the `Piece`s that say where each value goes. For the perceptron 784-50-50-50-10:

| hyperparameter | per | values | one value touches |
|---|---|---|---|
| l2 | neuron | 934 | a unit's *outgoing* weights, input units included: column i of its layer's `[out, in]` matrix |
| l2 | layer | 4 | the layer's weight matrix |
| l2 | weight | 44,700 | one entry of a weight matrix |
| learning_rate | neuron | 160 | a unit's *incoming* weights and its bias: row i of `[out, in]`, entry i of `[out]` |
| learning_rate | layer | 4 | the layer's weights and biases |
| learning_rate | step | T | every weight, during one step |
| learning_rate | layer-step | 4 T | the layer's weights and biases, during one step |

In a convolution `[out, in, h, w]` a unit is an output channel, for both. L2 never touches biases or the scales of a
normalisation. `global` is one value for the whole network. With `windows: W` a schedule has W values instead of T, each
for T/W steps in a row (Micaelli, Storkey 2021). No torch here: values are numpy vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpo.dimension import Dimension
from hpo.failures import BadStudy
from hpo.trial import Array, Values
from solvers.ranges import GRAINS, SCHEDULES, Grain, Range


class Weight(NamedTuple):
    """One parameter tensor of a model: which layer it belongs to and along which axis its units lie.

    `outgoing`: the axis of the units whose outgoing weights these are, None if L2 does not touch the tensor.
    `incoming`: the axis of the units these weights lead into, None if the tensor has no unit of its own.
    """

    name: str
    shape: tuple[int, ...]
    layer: str
    outgoing: int | None
    incoming: int | None


class Piece(NamedTuple):
    """values[start:stop].reshape(shape) is the solver's hyperparameter `key`, broadcast against its weight.

    `steps` > 0: its first axis is spread over so many steps, each value over a window of them.
    """

    key: str
    start: int
    stop: int
    shape: tuple[int, ...]
    steps: int = 0

    @property
    def windows(self) -> NDArray[np.intp]:
        """Which entry of the first axis each step takes, `[steps]`."""
        return np.arange(self.steps) * self.shape[0] // self.steps


@dataclass(frozen=True)
class Group:
    """One hyperparameter, resolved: K = `size` values between `low` and `high`, and where each goes."""

    name: str
    per: Grain
    low: float
    high: float
    default: float
    log: bool
    size: int
    pieces: tuple[Piece, ...]

    def scale(self, values: Array) -> Array:
        """Natural units → the coordinate searched in (the logarithm, or the value itself)."""
        return np.log(values) if self.log else np.asarray(values, dtype=float)

    def unscale(self, coordinates: Array) -> Array:
        """The inverse of `scale`, clipped to the bounds."""
        inside = np.clip(coordinates, *self.scale(np.array([self.low, self.high])))
        return np.clip(np.exp(inside) if self.log else inside, self.low, self.high)


@dataclass(frozen=True)
class Space:
    """The resolved search space; a flat vector is the groups' scaled coordinates one after another."""

    groups: tuple[Group, ...]

    @property
    def size(self) -> int:
        return sum(group.size for group in self.groups)

    def defaults(self) -> Values:
        """Every value at its group's default."""
        return {g.name: np.full(g.size, g.default) for g in self.groups}

    def flatten(self, values: Values) -> Array:
        """Named values in natural units → one coordinate vector `[size]`."""
        return np.concatenate([g.scale(values[g.name]) for g in self.groups])

    def unflatten(self, coordinates: Array) -> Values:
        """One coordinate vector `[size]` → named values in natural units, clipped to the bounds."""
        ends = np.cumsum([g.size for g in self.groups])[:-1]
        parts = np.split(coordinates, ends)
        return {g.name: g.unscale(part) for g, part in zip(self.groups, parts, strict=True)}

    def slopes(self, values: Values, hypergradient: Values) -> Array:
        """d/d(value) by name → d/d(coordinate) `[size]`: on a log scale, multiplied by the value."""
        parts = [hypergradient[g.name] * (values[g.name] if g.log else 1.0) for g in self.groups]
        return np.concatenate(parts)

    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest coordinates, `[size]` each."""
        ends = [g.scale(np.array([g.low, g.high])) for g in self.groups]
        sizes = [g.size for g in self.groups]
        return np.repeat([e[0] for e in ends], sizes), np.repeat([e[1] for e in ends], sizes)


def resolve(
    dimensions: Mapping[str, Dimension],
    ranges: Mapping[str, Range],
    weights: Sequence[Weight],
    steps: int,
    per: Grain | None = None,
) -> Space:
    """The space of a study for one model and solver; `per` asks for a coarser grain of it.

    Raises BadStudy naming the key: a grain the hyperparameter cannot take, bounds that do not hold together, `per`
    finer than the space, or a model with nothing to regularise.
    """
    _check_coarser(dimensions, per)
    return Space(
        tuple(
            _group(name, _filled(name, dimension, ranges[name]), ranges[name], weights, steps, per)
            for name, dimension in dimensions.items()
        )
    )


def _filled(name: str, dimension: Dimension, declared: Range) -> Dimension:
    """The dimension with every bound set, by the study or by the solver, and checked against each other."""
    low = declared.low if dimension.low is None else dimension.low
    high = declared.high if dimension.high is None else dimension.high
    if not low < high:
        raise BadStudy(f"space.{name}: low {low:g} must be below high {high:g}")
    least, most = declared.limits
    if low < least or high > most:
        raise BadStudy(f"space.{name}: {low:g} … {high:g} leaves what {name} can be: {least:g} … {most:g}")
    log = declared.log if dimension.log is None else dimension.log
    if log and low <= 0:
        raise BadStudy(f"space.{name}: low {low:g} must be above 0 on a log scale; raise it or set log: false")
    default = min(max(declared.default, low), high) if dimension.default is None else dimension.default
    if not low <= default <= high:
        raise BadStudy(f"space.{name}: default {default:g} must lie between low {low:g} and high {high:g}")
    if dimension.per not in declared.grains:
        raise BadStudy(
            f"space.{name}.per: {name} cannot be given per {dimension.per}: use one of {', '.join(declared.grains)}"
        )
    return dimension.model_copy(update={"low": low, "high": high, "default": default, "log": log})


def _group(
    name: str, dimension: Dimension, declared: Range, weights: Sequence[Weight], steps: int, per: Grain | None
) -> Group:
    grain = _coarser(dimension.per, per)
    if dimension.windows is not None and dimension.windows > steps:
        raise BadStudy(f"space.{name}.windows: {dimension.windows} is more than the training's {steps} steps")
    size, pieces = _pieces(name, grain, declared, weights, steps, dimension.windows or steps)
    low, high, default = dimension.low, dimension.high, dimension.default
    assert low is not None and high is not None and default is not None  # _filled set them
    return Group(name, grain, low, high, default, bool(dimension.log), size, pieces)


def _coarser(own: Grain, wanted: Grain | None) -> Grain:
    """The grain a method works at: its own wish where the space is finer than that, else the space's."""
    if wanted is None or wanted == own:
        return own
    if own == "step":
        return "global"
    if own == "layer-step":
        return wanted if wanted in ("global", "step") else "layer"
    return wanted if GRAINS.index(wanted) < GRAINS.index(own) else own


def _check_coarser(dimensions: Mapping[str, Dimension], wanted: Grain | None) -> None:
    """A wish that changes nothing because everything is coarser already is a mistake."""
    grains = {d.per for d in dimensions.values()}
    finest = max(grains, key=GRAINS.index)
    if wanted is not None and not grains & set(SCHEDULES) and GRAINS.index(wanted) > GRAINS.index(finest):
        raise BadStudy(
            f"methods: per {wanted} is finer than the whole space, which is per {finest} at most: leave it out"
        )


def _pieces(
    name: str, grain: Grain, declared: Range, weights: Sequence[Weight], steps: int, windows: int
) -> tuple[int, tuple[Piece, ...]]:
    if grain == "step":
        return windows, (Piece(f"{name}[t]", 0, windows, (windows,), steps),)
    if declared.target == "solver":
        return 1, (Piece(name, 0, 1, ()),)
    touched = [w for w in weights if declared.target == "incoming" or w.outgoing is not None]
    if not touched:
        raise BadStudy(f"space.{name}: this model has no weight matrix or convolution for {name} to act on")
    if grain == "global":
        return 1, tuple(Piece(f"{name}.{w.name}", 0, 1, (1,) * len(w.shape)) for w in touched)
    if grain == "layer-step":
        layers, pieces = _shared(name, "layer", declared, touched)
        return layers * windows, tuple(_lasting(piece, windows, steps) for piece in pieces)
    if grain == "weight":
        return _consecutive([(f"{name}.{w.name}", w.shape) for w in touched])
    return _shared(name, grain, declared, touched)


def _consecutive(tensors: list[tuple[str, tuple[int, ...]]]) -> tuple[int, tuple[Piece, ...]]:
    """A value for every entry of every tensor, in order."""
    pieces, start = [], 0
    for key, shape in tensors:
        stop = start + math.prod(shape)
        pieces.append(Piece(key, start, stop, shape))
        start = stop
    return start, tuple(pieces)


def _shared(name: str, grain: Grain, declared: Range, touched: list[Weight]) -> tuple[int, tuple[Piece, ...]]:
    """Values shared inside a layer: one for the layer, or one for each unit (a layer's weight and bias share units)."""
    pieces, slots, size = [], {}, 0
    for w in touched:
        axis = w.outgoing if declared.target == "outgoing" else w.incoming
        units = w.shape[axis] if grain == "neuron" and axis is not None else 1
        shape = tuple(units if i == axis else 1 for i in range(len(w.shape)))
        if (w.layer, units) not in slots:
            slots[w.layer, units] = size
            size += units
        start = slots[w.layer, units]
        pieces.append(Piece(f"{name}.{w.name}", start, start + units, shape))
    return size, tuple(pieces)


def _lasting(piece: Piece, windows: int, steps: int) -> Piece:
    """A schedule in the place of each value of a piece that has one."""
    return Piece(f"{piece.key}[t]", piece.start * windows, piece.stop * windows, (windows, *piece.shape), steps)
