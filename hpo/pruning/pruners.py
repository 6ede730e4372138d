"""The pruners of Optuna 5: asynchronous successive halving, Hyperband and the median rule.

A training is judged at every point of its learning curve but the last, against the curves of its arm's trials that had
ended when it was started, and of those that are trained together with it. Optuna's steps are the points, 1 … P, so a
resource is a share of a training. Every argument is written out here, Optuna's own defaults included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hpo import options
from hpo.failures import BadStudy
from hpo.registry import PRUNERS, resolve
from hpo.spec import Arm
from hpo.strategies import limits
from hpo.task import Curve

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from hpo.pruning.judge import Judge


class Pruner(ABC):
    """Made as `Pruner(points, label, **options)`: the points of a learning curve, the arm's label, and the keys of
    `pruner` in the study file.

    `settings`: every argument in force, as plain JSON values.
    """

    def __init__(self, points: int, label: str, pruner: str, arguments: Mapping[str, Any]) -> None:
        self._points, self._label, self._arguments = points, label, arguments
        self.settings: Mapping[str, Any] = {"optuna": version("optuna"), "pruner": pruner, **arguments}

    @abstractmethod
    def _pruner(self) -> BasePruner:
        """Optuna's own."""

    @cached_property
    def _judge(self) -> Judge:
        from hpo.pruning.judge import Judge

        return Judge(self._pruner(), self._points, self._label)

    def stops(self, number: int, curve: Curve, rivals: Mapping[int, Curve]) -> bool:
        """Whether trial `number` is not worth going on with after `curve`, its validation losses so far.

        `rivals`: those of other trials, by number; one with all points is complete. A loss that is not finite stops,
        a whole curve never.
        """
        if not 0 < len(curve) < self._points:
            return False
        return not math.isfinite(curve[-1]) or self._judge.stops(number, curve, rivals)


class Median(Pruner):
    """Stops a training whose lowest loss so far is above the median of the complete trials at the same point.

    `startup`: so many complete trials first; `warmup`: so many points of each training pass unjudged.
    Raises BadStudy naming an option that is out of range.
    Source: the median stopping rule of Golovin et al. 2017, with the median of losses, not of running averages.
    """

    def __init__(self, points: int, label: str, *, startup: int = 5, warmup: int = 0) -> None:
        self._startup = limits.whole("startup", startup, least=1)
        self._warmup = _below(points, "warmup", limits.whole("warmup", warmup, least=0))
        arguments = {
            "n_startup_trials": self._startup,
            "n_warmup_steps": self._warmup + 1,  # the first step that may be judged
            "interval_steps": 1,
            "n_min_trials": 1,
        }
        super().__init__(points, label, "MedianPruner", arguments)

    def _pruner(self) -> BasePruner:
        from optuna.pruners import MedianPruner

        return MedianPruner(**self._arguments)


class ASHA(Pruner):
    """Asynchronous successive halving (Li et al. 2020): after `first`·ηᵏ points, the best of every η go on.

    η is `reduction`. Of fewer than η trainings at a point only the best so far goes on. `first`: points before the
    first judgement. Raises BadStudy naming an option that is out of range.
    """

    def __init__(self, points: int, label: str, *, reduction: int = 4, first: int = 1) -> None:
        arguments = {
            "min_resource": _below(points, "first", limits.whole("first", first, least=1)),
            "reduction_factor": limits.whole("reduction", reduction, least=2),
            "min_early_stopping_rate": 0,
            "bootstrap_count": 0,
        }
        super().__init__(points, label, "SuccessiveHalvingPruner", arguments)

    def _pruner(self) -> BasePruner:
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(**self._arguments)


class Hyperband(Pruner):
    """Hyperband (Li et al. 2018): every trial belongs to one of ⌊log_η(P/first)⌋ + 1 brackets, s = 0, 1 …

    In bracket s the first judgement is after `first`·ηˢ points; trials are judged as by ASHA among those of their
    bracket. The bracket is drawn from the arm's label and the trial's number, the lower ones more often, so that all
    cost about the same. Raises BadStudy naming an option that is out of range.
    """

    def __init__(self, points: int, label: str, *, reduction: int = 3, first: int = 1) -> None:
        arguments = {
            "min_resource": _below(points, "first", limits.whole("first", first, least=1)),
            "max_resource": points,
            "reduction_factor": limits.whole("reduction", reduction, least=2),
            "bootstrap_count": 0,
        }
        super().__init__(points, label, "HyperbandPruner", arguments)

    def _pruner(self) -> BasePruner:
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(**self._arguments)


def pruner_for(arm: Arm, points: int) -> Pruner | None:
    """The pruner of an arm whose learning curves have so many points. Raises BadStudy naming the option."""
    choice = arm.method.pruner
    if choice is None:
        return None
    constructor, key = resolve(PRUNERS[choice.name]), f"methods.{arm.title}.pruner"
    given = options.checked(constructor, choice.options, key)
    if points < 2:
        raise BadStudy(f"{key}: a training of {points} step has no point at which it could be stopped: leave it out")
    try:
        return _made(constructor, points, arm.label, tuple(given.items()))
    except BadStudy as error:
        raise BadStudy(f"{key}.{error}") from error


@lru_cache(maxsize=64)
def _made(constructor: type[Pruner], points: int, label: str, given: tuple[tuple[str, Any], ...]) -> Pruner:
    """The same one for every trial of an arm in this process: it need not see its rivals anew."""
    return constructor(points, label, **dict(given))


def _below(points: int, name: str, value: int) -> int:
    if value >= points:
        raise BadStudy(f"{name}: {value} must be below {points}, the points of a learning curve here")
    return value
