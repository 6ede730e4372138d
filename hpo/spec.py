"""What a study file may say, as frozen values: `Study` and its parts, and the arms it makes.

The shape is checked here; what a name means (does this solver have that hyperparameter, does the data set have that
many rows) is checked by `hpo.evaluation.plan`, which loads torch and the data. `hpo.study_file` reads one.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Strict, Tag, field_validator, model_validator

from hpo.choices import Method, Number, SolverChoice, Whole, named
from hpo.dimension import SOLVER, Dimension, Entry
from hpo.failures import unknown
from hpo.registry import EXECUTORS, SOURCES
from hpo.resources import Resources

Rows = Whole | Number
"""A number of rows (an integer), or a fraction of them (between 0 and 1)."""


class _Part(BaseModel, frozen=True, extra="forbid"):
    """A part of the study file: unknown keys are faults."""


class Split(_Part, frozen=True):
    """Training and validation rows; the rest is test, unless the data set brings its own test part."""

    train: Rows = 0.6
    validation: Rows = 0.2

    @field_validator("train", "validation")
    @classmethod
    def _positive(cls, rows: Rows) -> Rows:
        if not (rows >= 1 if isinstance(rows, int) else 0 < rows < 1):
            raise ValueError(f"{rows} is neither a number of rows (1, 2, …) nor a fraction of them (between 0 and 1)")
        return rows


class Perceptron(_Part, frozen=True):
    """`{mlp: [50, 50, 50], activation: relu}`."""

    mlp: tuple[Whole, ...]
    activation: Literal["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "gelu"] = "relu"

    @field_validator("mlp")
    @classmethod
    def _widths(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if any(width < 1 for width in widths):
            raise ValueError(f"layer widths must be 1 or more, not {list(widths)}")
        return widths


class Problem(_Part, frozen=True):
    """What is learnt: a data set, its split, a model."""

    data: str
    split: Split = Split()
    model: Annotated[
        Annotated[Perceptron, Tag("a perceptron")] | Annotated[str, Tag("a path")],
        Discriminator(lambda model: "a path" if isinstance(model, str) else "a perceptron"),
    ] = Perceptron(mlp=(50, 50, 50))
    task: Literal["auto", "classification", "regression"] = "auto"

    @field_validator("data")
    @classmethod
    def _known(cls, data: str) -> str:
        if data in SOURCES or data.startswith("openml:") or re.search(r"\.(csv|csv\.gz|npz)$", data):
            return data
        if re.fullmatch(r"[\w.]+:\w+", data):
            return data
        others = ["path.csv(.gz)", "path.npz", "openml:NAME", "package.module:function"]
        raise ValueError(unknown("data set", data, [*SOURCES, *others]))

    @field_validator("model", mode="before")
    @classmethod
    def _path(cls, model: object) -> object:
        if isinstance(model, str) and not re.fullmatch(r"[\w.]+:\w+", model):
            raise ValueError(f"{model!r} is neither {{mlp: [widths]}} nor package.module:function")
        return model


class Training(_Part, frozen=True):
    """How one training goes. `solver` may be a list: one arm each.

    `precision` is that of the products in the network's forward and backward passes: weights and what a solver does
    with gradients stay float32. `deterministic`: only operations that give the same bits whenever they are repeated.
    """

    solver: tuple[SolverChoice, ...] = (SolverChoice(name="sgd"),)
    steps: Whole = Field(ge=1)
    batch_size: Whole = Field(ge=1)
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    deterministic: Annotated[bool, Strict()] = False

    @field_validator("solver", mode="before")
    @classmethod
    def _list(cls, solver: object) -> object:
        return tuple(named(one) for one in (solver if isinstance(solver, list | tuple) else [solver]))

    @field_validator("solver")
    @classmethod
    def _distinct(cls, solvers: tuple[SolverChoice, ...]) -> tuple[SolverChoice, ...]:
        titles = [s.title for s in solvers]
        if not titles or len(set(titles)) != len(titles):
            raise ValueError(f"{titles} must name one solver or several different ones: give each its own label")
        return solvers


class Budget(_Part, frozen=True):
    """What each arm may spend in total; exactly one of the three."""

    trainings: Whole | None = Field(None, ge=1)
    gradient_evaluations: Number | None = Field(None, gt=0, allow_inf_nan=False)
    seconds: Number | None = Field(None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            raise ValueError(f"give exactly one of trainings, gradient_evaluations, seconds; given: {said}")
        return self

    @property
    def unit(self) -> str:
        return next(name for name, value in self if value is not None)

    @property
    def amount(self) -> float:
        return float(getattr(self, self.unit))


@dataclass(frozen=True)
class Arm:
    """One (method, solver, seed) of a study; `title` is shared by the arms that differ only in the seed."""

    title: str
    method: Method
    solver: SolverChoice
    seed: int

    @property
    def label(self) -> str:
        return f"{self.title}/{self.seed}"


class Study(_Part, frozen=True):
    """A whole study file."""

    name: str
    problem: Problem
    training: Training
    space: dict[str, Entry] = Field(min_length=1)
    methods: tuple[Method, ...] = Field(min_length=1)
    budget: Budget
    seeds: tuple[Whole, ...] = (0,)
    resources: Resources = Resources.model_validate({})
    execution: str = "auto"

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", name):
            shown = repr(name) if len(name) <= 100 else f"a name of {len(name)} characters"
            raise ValueError(
                f"{shown} must be up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit"
            )
        return name

    @field_validator("space", mode="before")
    @classmethod
    def _plain(cls, space: object) -> object:
        return {k: {} if v is None else v for k, v in space.items()} if isinstance(space, dict) else space

    @field_validator("space")
    @classmethod
    def _one_word(cls, space: dict[str, Entry]) -> dict[str, Entry]:
        for name, entry in space.items():
            if isinstance(entry, Dimension) == (name == SOLVER):
                given = "auto" if name != SOLVER else "bounds"
                raise ValueError(f"{name}: {given}: only `{SOLVER}: auto` is a word, every other entry has bounds")
        return space

    @field_validator("methods", mode="before")
    @classmethod
    def _methods(cls, methods: object) -> object:
        return tuple(named(one) for one in methods) if isinstance(methods, list | tuple) else methods

    @field_validator("methods")
    @classmethod
    def _distinct(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        titles = [m.title for m in methods]
        twice = sorted({t for t in titles if titles.count(t) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} stands here twice: give each its own label")
        return methods

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, seeds: object) -> object:
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if seeds < 1:
                raise ValueError(f"{seeds} must be 1 or more, or a list of seeds")
            return tuple(range(seeds))
        return seeds

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[Whole, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) >= 2**63:
            raise ValueError(f"{list(seeds)} must be distinct numbers between 0 and 2⁶³ − 1")
        return seeds

    @model_validator(mode="after")
    def _told_apart(self) -> Study:
        titles = [arm.title for arm in self.arms() if arm.seed == self.seeds[0]]
        twice = sorted({t for t in titles if titles.count(t) > 1})
        if twice:
            raise ValueError(f"methods and solvers: two arms would be called {twice[0]!r}: give them other labels")
        return self

    @model_validator(mode="after")
    def _has_cores(self) -> Study:
        if self.training.precision == "tf32" and self.resources.on == "cpu":
            raise ValueError("training.precision: tf32 is a mode of NVIDIA cards: give resources.gpus, or take float32")
        return self

    @field_validator("execution")
    @classmethod
    def _executor(cls, execution: str) -> str:
        if execution not in (*EXECUTORS, "auto"):
            raise ValueError(unknown("execution", execution, [*EXECUTORS, "auto"]))
        return execution

    def canonical(self) -> dict[str, Any]:
        """The study as plain JSON values, every default written out."""
        return self.model_dump(mode="json", exclude_none=False)

    def identity(self) -> dict[str, Any]:
        """The part that must not change once trials exist: all but name, budget, seeds, resources and execution."""
        fixed = self.canonical()
        for key in ("name", "budget", "resources", "execution", "seeds"):
            fixed.pop(key)
        return fixed

    def arms(self) -> tuple[Arm, ...]:
        """Every (method, solver, seed), seed by seed."""
        several = len(self.training.solver) > 1
        return tuple(
            Arm(f"{method.title}+{solver.title}" if several else method.title, method, solver, seed)
            for seed in self.seeds
            for method in self.methods
            for solver in self.training.solver
        )

    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
