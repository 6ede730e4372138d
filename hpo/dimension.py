"""The entries of a study file's `space`, and what of them one solver searches. No torch here."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Strict, Tag, model_validator

from hpo.failures import BadStudy, unknown
from solvers.ranges import SCHEDULES, Grain, Range


class Dimension(BaseModel):
    """One entry of the study file's `space`; bounds left out are the solver's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per: Grain = "global"
    low: Annotated[float, Strict()] | None = None
    high: Annotated[float, Strict()] | None = None
    default: Annotated[float, Strict()] | None = None
    log: bool | None = None
    windows: Annotated[int, Strict()] | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Dimension:
        for name in ("low", "high", "default"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} {value} is not a finite number")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.windows is not None and self.per not in SCHEDULES:
            raise ValueError(f"windows {self.windows} needs per: {' or '.join(SCHEDULES)}, not per: {self.per}")
        return self


SOLVER = "solver"
"""`space: {solver: auto}`: whatever the solver itself says is worth searching."""

Entry = Annotated[
    Annotated[Dimension, Tag("bounds")] | Annotated[Literal["auto"], Tag("a word")],
    Discriminator(lambda entry: "a word" if isinstance(entry, str) else "bounds"),
]


def searched(
    space: Mapping[str, Entry],
    ranges: Mapping[str, Range],
    elsewhere: Collection[str] = (),
    held: Collection[str] = (),
    solver: str = "this solver",
) -> dict[str, Dimension]:
    """What of a study's space one solver searches: the entries it knows, and with `solver: auto` what it declares.

    `elsewhere`: hyperparameters of the study's other solvers, which may stand in the space, too; `held`: those kept
    fixed, which `auto` leaves out. Raises BadStudy for a name that no solver knows, and where nothing is left.
    """
    found = {}
    for name, entry in space.items():
        if isinstance(entry, Dimension) and name in ranges:
            found[name] = entry
        elif isinstance(entry, Dimension) and name not in elsewhere:
            raise BadStudy(f"space.{name}: {unknown(f'hyperparameter of {solver}', name, {*ranges, *elsewhere})}")
    if SOLVER in space:
        rest = {name: r for name, r in ranges.items() if name not in found and name not in held}
        found |= {name: Dimension(per=r.auto) for name, r in rest.items() if r.auto}
    if not found:
        fixed = f" ({', '.join(sorted(held))} fixed)" if held else ""
        raise BadStudy(
            f"space: {', '.join(space)}: nothing of it is left for {solver} to search{fixed}: use one of "
            f"{', '.join(ranges)}"
        )
    return found
