"""A trajectory backwards from few kept states: what lies between them is computed again, with the same digits.

Binomial checkpointing (Griewank 1992; Griewank, Walther 2000, "revolve"): with c states kept at a time, the first of
the run among them, the one at hand besides, and every step taken at most r times, the longest run that can be reversed
has

    β(c, r) = (c + r)! / (c! r!)

steps. Twice √(T/2) states reverse T steps at one forward pass more; 12 states reverse 10,000 at three.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from itertools import pairwise
from math import comb

from hpo.hypergradients.training import Training
from solvers.solver import State, run
from solvers.vectors import Tensors


def spine(start: int, stop: int, slots: int) -> list[int]:
    """Which states a sweep from `start` to `stop` keeps: `slots` of them, `start` first, and the last one."""
    kept = [start]
    while len(kept) < slots and stop - kept[-1] > 1:
        kept.append(kept[-1] + _ahead(stop - kept[-1], slots - len(kept) + 1))
    return kept if kept[-1] == stop - 1 else [*kept, stop - 1]


def again(steps: int, slots: int) -> int:
    """How many steps are taken again, besides the training itself: r·T − β(c + 1, r − 1) − (T − 1)."""
    if slots >= steps:
        return 0
    r = _repeats(steps, slots)
    return r * steps - comb(slots + r, slots + 1) - (steps - 1)


def enough(steps: int) -> int:
    """The fewest states with which no step is taken more than once again: about √(2T)."""
    slots = 1
    while _repeats(steps, slots) > 2:
        slots += 1
    return slots


def backwards(
    training: Training, hyper: Tensors, states: MutableMapping[int, State], stop: int, slots: int
) -> Iterator[tuple[int, State]]:
    """(t, the state before step t) from stop − 1 down to the first of `states`, which is emptied on the way.

    `states` are those that `spine` names for this range; `slots` and one more are held at most.
    """
    kept = sorted(states)
    for i, (here, after) in reversed(list(enumerate(pairwise([*kept, stop])))):
        free = slots - i  # of all slots, those before this state stay taken
        if after - here == 1:
            yield here, states[here]
        elif free == 1:
            for t in range(after - 1, here - 1, -1):
                yield t, run(training.solver, states[here], hyper, training.batches, here, t)
        else:
            yield from backwards(training, hyper, _swept(training, hyper, states[here], here, after, free), after, free)
        del states[here]


def _swept(training: Training, hyper: Tensors, state: State, start: int, stop: int, slots: int) -> dict[int, State]:
    """The states of the spine of a range, from the first of them."""
    kept = spine(start, stop, slots)
    found = {start: state}
    for here, after in pairwise(kept):
        found[after] = run(training.solver, found[here], hyper, training.batches, here, after)
    return found


def _repeats(steps: int, slots: int) -> int:
    r = 0
    while comb(slots + r, slots) < steps:
        r += 1
    return r


def _ahead(steps: int, slots: int) -> int:
    """How far the next kept state lies ahead, the best choice for what is left."""
    if slots >= steps:
        return 1
    r = _repeats(steps, slots)
    return max(comb(slots + r - 2, slots) if r > 1 else 1, steps - comb(slots - 1 + r, slots - 1), 1)
