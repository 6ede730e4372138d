"""Where to go when nothing has worked yet: to lower learning rates, and then to lower everything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpo.space import Space
from hpo.trial import Array

LINEAR_UNITS = 10.0


def units(space: Space) -> Array:
    """The length of each coordinate `[D]`: 1 (a factor of e) on a logarithmic scale, a tenth of the range else."""
    low, high = space.bounds()
    log = np.repeat([g.log for g in space.groups], [g.size for g in space.groups])
    return np.where(log, 1.0, (high - low) / LINEAR_UNITS)


def rates(space: Space) -> NDArray[np.bool_]:
    """Which coordinates are learning rates, `[D]`."""
    return np.repeat([g.name == "learning_rate" for g in space.groups], [g.size for g in space.groups])


def calmer(space: Space, here: Array) -> Array:
    """Learning rates one unit down; where they are as low as they may be, everything."""
    lower = np.clip(here - units(space), *space.bounds())
    blamed = np.where(rates(space), lower, here)
    return lower if np.array_equal(blamed, here) else blamed
