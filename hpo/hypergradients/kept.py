"""A training under way as one dictionary of tensors, which can be put away and brought back.

    "state/120/0"     leaf 0 of the state at step 120 (`solvers.vectors.leaves`)
    "tangents/120/3"  tensor 3 of what else a method carries at that step

What a name stands for never changes, so that it need not be put away again. The start is not kept, nor is a leaf that
is still the start's own tensor (xᵀx of dlADMM): weights and hyperparameters make them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, MutableMapping, Sequence

from torch import Tensor

from solvers.solver import State
from solvers.vectors import leaves, rebuild

Kept = dict[str, Tensor]


class States(MutableMapping[int, State]):
    """States of one training by step, written into a dictionary where one is given; that of step 0 is there at first.

    Raises ValueError for a dictionary that goes beyond the training's last step.
    """

    def __init__(self, start: State, steps: int, kept: Kept | None) -> None:
        self.start, self.kept, self._writes = start, {} if kept is None else kept, kept is not None
        self._first = leaves(start)
        self._ends = [f"/{i}" for i in range(len(self._first))]  # made once: names are built at every step
        self._states = {0: start, **{step: self._rebuilt(step) for step in found(self.kept, "state")}}
        stand(self.kept, "state", steps)

    @property
    def last(self) -> int:
        """The step at which the training stands."""
        return max(self._states)

    def __getitem__(self, step: int) -> State:
        return self._states[step]

    def __setitem__(self, step: int, state: State) -> None:
        self._states[step] = state
        if step and self._writes:
            after = leaves(state)
            for name, x, first in zip(self._names(step), after, self._first, strict=True):
                if x is not first or x is after[0]:  # leaf 0 always: it says that there is a state
                    self.kept[name] = x

    def __delitem__(self, step: int) -> None:
        del self._states[step]
        if self._writes:
            for name in self._names(step):
                self.kept.pop(name, None)

    def __iter__(self) -> Iterator[int]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def only(self, *steps: int) -> None:
        """Delete all others but the start."""
        for step in self._states.keys() - {0, *steps}:
            del self[step]

    def _names(self, step: int) -> list[str]:
        head = f"state/{step}"
        return [head + end for end in self._ends]

    def _rebuilt(self, step: int) -> State:
        pairs = zip(self._names(step), self._first, strict=True)
        return rebuild(self.start, [self.kept.get(name, x) for name, x in pairs])


def ahead(here: int, stops: Collection[int]) -> list[int]:
    """Where a training that stands at `here` stops: there, and at all stops that are left."""
    return sorted({here, *(stop for stop in stops if stop > here)})


def found(kept: Kept, group: str) -> set[int]:
    """The steps of which a group is kept."""
    return {int(name.split("/")[1]) for name in kept if name.startswith(f"{group}/")}


def stand(kept: Kept, group: str, steps: int) -> int:
    """The last step of which a group is kept, 0 if there is none. Raises ValueError beyond the end of the training."""
    here = max(found(kept, group), default=0)
    if here > steps:
        raise ValueError(f"what was kept stands at step {here} of a training of {steps} steps: give that of this one")
    return here


def recall(kept: Kept, group: str, step: int) -> list[Tensor]:
    """The tensors of a group, in order."""
    count = sum(name.startswith(f"{group}/{step}/") for name in kept)
    return [kept[f"{group}/{step}/{i}"] for i in range(count)]


def replace(kept: Kept, group: str, step: int, tensors: Sequence[Tensor]) -> None:
    """Keep a group as it is at `step`, and no earlier one; nothing of step 0."""
    new = {f"{group}/{step}/{i}": x for i, x in enumerate(tensors)} if step else {}
    old = [name for name in kept if name.startswith(f"{group}/") and name not in new]
    kept.update(new)
    for name in old:
        del kept[name]
