"""What a study file chooses by name: solvers, methods and pruners, each with options of its own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, Strict, field_validator, model_validator

from hpo.failures import unknown
from hpo.registry import DECIDERS, PRUNERS, STRATEGIES
from solvers import SOLVERS
from solvers.ranges import Grain

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
"""Not a text or a truth value that could be read as a number."""

BLACK_BOX = sorted(set(STRATEGIES) - set(DECIDERS.values()))
METHODS = sorted({*BLACK_BOX, *DECIDERS})


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} must be one line of text that can be seen")
    return text.strip()


Label = Annotated[str, AfterValidator(_label)]


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
    label: Label | None = None

    @property
    def title(self) -> str:
        return self.label or self.name

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SOLVERS:
            raise ValueError(unknown("solver", name, SOLVERS))
        return name


class PrunerChoice(Choice, frozen=True):
    """A pruner by name; other keys are its options."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PRUNERS:
            raise ValueError(unknown("pruner", name, PRUNERS))
        return name


class Method(Choice, frozen=True):
    """A method by name; `per` asks for a coarser grain of the space, other keys are options of the method.

    `pruner`: what stops trainings that are not worth finishing.
    """

    per: Grain | None = None
    label: Label | None = None
    pruner: PrunerChoice | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(unknown("method", name, METHODS))
        return name

    @field_validator("pruner", mode="before")
    @classmethod
    def _pruner(cls, pruner: object) -> object:
        return named(pruner)

    @model_validator(mode="after")
    def _prunable(self) -> Method:
        if self.pruner is not None and self.name in DECIDERS:
            raise ValueError(
                f"pruner: {self.pruner.name} stops trainings that {self.name} needs whole for its hypergradients: "
                f"leave it out; {', '.join(BLACK_BOX)} take one"
            )
        return self

    @property
    def title(self) -> str:
        pruner = None if self.pruner is None else self.pruner.name
        return self.label or "-".join(part for part in (self.name, self.per, pruner) if part)


def named(entry: object) -> object:
    """A bare name as a choice without options."""
    return {"name": entry} if isinstance(entry, str) else entry
