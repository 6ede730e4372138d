"""Where a descent goes, from the slopes it has seen: one direction for each kind of step.

With g the slope along each coordinate `[D]`, n the number of slopes so far and every operation entry by entry:

    layered  d = M̂ / (√V̂ + ε) + 2 · clip(m̂ / (√v̂ + ε), −2, 2)
                 M ← β₁M + (1−β₁)G     V ← β₂V + (1−β₂)G²     G = Σg, over the values of a layer
                 m ← β₁m + (1−β₁)h     v ← β₂v + (1−β₂)h̄²     h = g − ḡ, h̄² = Σh² / values of the layer
    adam     d = m̂ / (√v̂ + ε)         m ← β₁m + (1−β₁)g      v ← β₂v + (1−β₂)g²    (Kingma, Ba 2015, Algorithm 1)
    sign     d = sign(g): 0 where g is 0, else the same length for every coordinate and trial (Fu et al. 2016)
    plain    d = g

A hat divides by 1 − βⁿ. `layered` takes the values of a layer apart, into their mean and their deviations from it. The
mean goes as one value would, by Adam. The deviations have one length for the whole layer, as the blocks of Adam-mini
have (Zhang et al. 2024), so that a unit that hardly matters hardly moves; Adam would move all alike, noise as fast as
signal. A layer of one value has no deviations: there `layered` is `adam`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpo.space import Space
from hpo.trial import Array

LAYERED = "layered"
STEPS = (LAYERED, "adam", "sign", "plain")
WITH_MOMENTS = (LAYERED, "adam")
EPSILON = 1e-12
DEVIATION, FARTHEST = 2.0, 2.0
ROUNDING = 1e-12

Layers = NDArray[np.intp]
"""Which layer's values of which hyperparameter each coordinate is one of, `[D]`; a schedule's values are one layer."""


class Moments(NamedTuple):
    """What is remembered of slopes: running means of their parts and of the squares, `[P, D]` each; P = 2 for
    `layered`, M and m, else 1. `power`: the running mean of g·g. `seen`: how many slopes.
    """

    mean: Array
    square: Array
    power: float = 0.0
    seen: int = 0


def layers(space: Space) -> Layers:
    """See `Layers`: every stretch of values that a weight tensor has for itself is one."""
    stretches = [sorted({(piece.start, piece.stop) for piece in group.pieces}) for group in space.groups]
    sizes = [stop - start for some in stretches for start, stop in some]
    return np.repeat(np.arange(len(sizes)), sizes)


def none(step: str, size: int) -> Moments:
    """Before the first slope."""
    parts = np.zeros((2 if step == LAYERED else 1, size))
    return Moments(parts, parts)


def seen(moments: Moments, step: str, of: Layers, slopes: Array, betas: tuple[float, float]) -> Moments:
    """The moments after one more slope `[D]`."""
    beta1, beta2 = betas
    first, second = slopes[None], slopes[None] ** 2
    if step == LAYERED:
        total, own = np.bincount(of, slopes)[of], deviations(slopes, of)
        first, second = np.stack([total, own]), np.stack([total**2, means(own**2, of)])
    return Moments(
        beta1 * moments.mean + (1 - beta1) * first,
        beta2 * moments.square + (1 - beta2) * second,
        beta2 * moments.power + (1 - beta2) * float(slopes @ slopes),
        moments.seen + 1,
    )


def direction(moments: Moments, step: str, slopes: Array, betas: tuple[float, float]) -> Array:
    """d `[D]`; `slopes`: the last ones."""
    if step == "sign":
        return np.sign(slopes)
    if step == "plain":
        return slopes
    beta1, beta2 = betas
    mean = moments.mean / (1 - beta1**moments.seen)
    square = moments.square / (1 - beta2**moments.seen)
    parts = mean / (np.sqrt(square) + EPSILON)
    return parts[0] if step == "adam" else parts[0] + DEVIATION * np.clip(parts[1], -FARTHEST, FARTHEST)


def means(x: Array, of: Layers) -> Array:
    """The mean over its layer in the place of each entry, `[D]`."""
    return (np.bincount(of, x) / np.bincount(of))[of]


def deviations(x: Array, of: Layers) -> Array:
    """x less the mean of its layer, `[D]`; exactly 0 where the two differ by rounding alone, in a layer of one too."""
    mean = means(x, of)
    apart = x - mean
    return np.where(np.abs(apart) > ROUNDING * np.abs(mean), apart, 0.0)
