"""What a study file chooses by name: solvers and methods, each with options of its own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, Strict, field_validator

from hpo.failures import unknown
from hpo.registry import DECIDERS, STRATEGIES
from solvers import SOLVERS
from solvers.ranges import Grain

Whole = Annotated[int, Strict()]
"""Not a text or a truth value that could be read as a number."""

METHODS = sorted((set(STRATEGIES) - set(DECIDERS.values())) | set(DECIDERS))


class Choice(BaseModel, frozen=True, extra="allow"):
    """Something chosen by name; every other key is an option of its own."""

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SolverChoice(Choice, frozen=True):
    """A solver by name; other keys are options of its constructor, or hyperparameters it keeps fixed.

    `steps`, `batch_size`: its own, in place of the training's. `label`: what tells it from another choice of the same.
    """

    steps: Whole | None = Field(default=None, ge=1)
    batch_size: Whole | None = Field(default=None, ge=1)
    label: str | None = None

    @property
    def title(self) -> str:
        return self.label or self.name

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SOLVERS:
            raise ValueError(unknown("solver", name, SOLVERS))
        return name


class Method(Choice, frozen=True):
    """A method by name; `per` asks for a coarser grain of the space, other keys are options of the method."""

    per: Grain | None = None
    label: str | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(unknown("method", name, METHODS))
        return name

    @property
    def title(self) -> str:
        return self.label or (f"{self.name}-{self.per}" if self.per else self.name)


def named(entry: object) -> object:
    """A bare name as a choice without options."""
    return {"name": entry} if isinstance(entry, str) else entry
