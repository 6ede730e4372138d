"""The backward loop along the piecewise line through a few kept states (Fu, Luo, Feng, Low, Chua, IJCAI 2016).

Reverse step i of S stands at the place (i + ½)T/S of the training, and uses minibatch i.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import torch

from hpo.hypergradients.adjoint import Reversed, final_adjoint, reverse
from hpo.hypergradients.segment import Segment
from hpo.hypergradients.training import Training, families, validation_gradient
from solvers.solver import State
from solvers.vectors import Tensors


def along_the_line(
    training: Training, hyper: Tensors, path: list[Segment], steps: int, *, stretched: bool, bounded: bool
) -> Reversed:
    """The pass of `steps` = S reverse steps over the segments of `path`.

    `stretched`: learning rates are multiplied by T/S. `bounded`: the adjoint is never longer than at the end of the
    training, where it would have exploded. Cost: four gradient evaluations a step.
    """
    starts = [segment.start for segment in path]

    def backwards() -> Iterator[tuple[int, State]]:
        for i in range(steps - 1, -1, -1):
            place = (i + 0.5) / steps * training.steps
            segment = path[bisect_right(starts, place) - 1]
            length = segment.stop - segment.start
            share, batch = (place - segment.start) / length, training.batches(i)
            with torch.no_grad():
                yield i, training.solver.between(segment.first, segment.last, share, length, hyper, batch)

    final = path[-1].last
    start = final_adjoint(final, validation_gradient(training, final.weights))
    stretch = {n: training.steps / steps if stretched and families([n]) == ["learning_rate"] else 1.0 for n in hyper}
    longer = {n: x * stretch[n] for n, x in hyper.items()}
    found = reverse(training.solver, backwards(), longer, training.batches, start, bounded=bounded)
    return found._replace(total={n: x * stretch[n] for n, x in found.total.items()})
