"""hpo's black-box methods as a sampler of Optuna (Akiba et al. 2019), scikit-optimize's surrogates among them.

    study = optuna.create_study(sampler=Sampler("skopt-gp", seed=0, startup=10))

A strategy is made anew for each trial and told the study's history, so that a suggestion is a function of the seed,
the trial's number and that history: a study continued by a new sampler goes on as if it had never been left, and the
sampler holds nothing that changes. It works in floats:

- a float: itself, on its logarithm where it is logarithmic;
- a whole number, or a float with a step: its interval, widened by half a step at both ends; the nearest step is taken;
- a category: one value in [0, 1] for each choice; the choice of the largest is taken.

What is told of a trial is the middle of what rounds to its values: the loss is smooth there, and has steps elsewhere.
A model told so finds the rest of such a cell unexplored and may propose it again; then it is told of the point it had
proposed, which every trial carries as a note (the system attribute `hpo:proposed`). The note also tells of trials that
run and have not asked for their values yet.

A pruned trial is told with what it reported; one that reported nothing, failed or has no finite value is told as
failed; one without all values of the space is not told. A parameter that is not in every completed trial, or not with
one range, is drawn at random.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo import options
from hpo.choices import BLACK_BOX
from hpo.failures import BadStudy, unknown
from hpo.interop import stored
from hpo.registry import STRATEGIES, resolve
from hpo.space import Group, Space
from hpo.strategies.strategy import trial_seed
from hpo.trial import Array, Outcome, Proposal, Trial

METHODS = BLACK_BOX
"""The methods that need no hypergradient."""

NOTE = "hpo:proposed"
"""The system attribute in which a trial keeps the point that was proposed for it."""

_ONE_AT_A_TIME = threading.Lock()
"""Strategies quieten Optuna's log and Python's warnings while they think, and both belong to the process."""


class Sampler(BaseSampler):
    """A method by name, with its options: `Sampler("tpe", seed=1, startup=5)`. One study may have several at a time.

    Cost: the method's own, and for Optuna's methods also their history: a millisecond for each trial, five for CMA-ES.
    Raises ValueError for a method that is none of `METHODS`, for an option it does not have or that is out of range,
    for `batch`, which is Optuna's to say, and, when asked, for a study with several objectives.
    """

    def __init__(self, method: str, seed: int = 0, **settings: Any) -> None:
        if method not in METHODS:
            raise ValueError(unknown("black-box method", method, METHODS))
        if "batch" in settings:
            raise ValueError(f"{method}.batch: Optuna says how many trials run at once (n_jobs): leave it out")
        self.method = method
        self.seed = seed
        try:
            self._settings = options.checked(resolve(STRATEGIES[method]), settings, method)
            self._strategy(Space((_group("x", FloatDistribution(0, 1)),)))
        except BadStudy as fault:
            raise ValueError(str(fault)) from fault

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What every completed trial has, with one range, but for the parameters that can take a single value."""
        _direction(study)
        common = intersection_search_space(study.get_trials(deepcopy=False))
        return {name: distribution for name, distribution in common.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The method's proposal, rounded to what the parameters can be."""
        sign = 1.0 if _direction(study) == StudyDirection.MINIMIZE else -1.0
        if not search_space:
            return {}
        strategy = self._strategy(Space(tuple(_group(name, d) for name, d in search_space.items())))
        with _ONE_AT_A_TIME:
            for past in _history(study, search_space, sign):
                strategy.tell(past)
            point = strategy.ask(trial.number).values
            note = {name: vector.tolist() for name, vector in point.items()}
            study._storage.set_trial_system_attr(trial._trial_id, NOTE, note)
        return {name: d.to_external_repr(_rounded(point[name], d)) for name, d in search_space.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random draw, its seed made from the sampler's, the trial's number and the parameter's name."""
        _direction(study)
        generator = np.random.default_rng((trial_seed(self.seed, trial.number), *param_name.encode()))
        sampler = RandomSampler(seed=int(generator.integers(2**32)))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _strategy(self, space: Space) -> Any:
        return resolve(STRATEGIES[self.method])(space, self.seed, **self._settings)


def _direction(study: Study) -> StudyDirection:
    if len(study.directions) > 1:
        raise ValueError(f"this study has {len(study.directions)} objectives: hpo's methods take one")
    return study.direction


def _history(study: Study, space: Mapping[str, BaseDistribution], sign: float) -> Iterator[Trial]:
    """The study's trials that have a point in the space: a value, or a proposed one, for each parameter."""
    tried: set[tuple[float, ...]] = set()
    for trial in study.get_trials(deepcopy=False):
        note = {name: np.array(point) for name, point in trial.system_attrs.get(NOTE, {}).items()}
        same = all(trial.distributions.get(name, d) == d for name, d in space.items())
        if trial.state == TrialState.WAITING or not same or not space.keys() <= trial.params.keys() | note.keys():
            continue
        cell = {
            name: d.to_internal_repr(trial.params[name]) if name in trial.params else _rounded(note[name], d)
            for name, d in space.items()
        }
        point = {name: _middle(cell[name], d) for name, d in space.items()}
        if tuple(cell.values()) in tried:
            point |= {n: note[n] for n, d in space.items() if n in note and _rounded(note[n], d) == cell[n]}
        tried.add(tuple(cell.values()))
        yield Trial(Proposal(trial.number, point), _outcome(trial, sign))


def _outcome(trial: FrozenTrial, sign: float) -> Outcome | None:
    match trial.state:
        case TrialState.RUNNING:
            return None
        case TrialState.COMPLETE:
            assert trial.value is not None  # so is every complete trial of a study with one objective
            return Outcome("complete", sign * trial.value, math.nan)
        case TrialState.PRUNED if trial.intermediate_values:
            return stored.pruned(trial, sign)
        case _:
            return Outcome("failed", math.nan, math.nan)


def _group(name: str, distribution: BaseDistribution) -> Group:
    """Where the method searches for one parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return Group(name, "global", 0.0, 1.0, 0.5, False, len(distribution.choices), ())
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # Optuna has no others
    half = (distribution.step or 0) / 2
    low, high = distribution.low - half, distribution.high + half
    middle = math.sqrt(low) * math.sqrt(high) if distribution.log else low / 2 + high / 2
    return Group(name, "global", low, high, middle, distribution.log, 1, ())


def _rounded(point: Array, distribution: BaseDistribution) -> float:
    """A point → the parameter's value, as Optuna stores it: a category by its index."""
    if isinstance(distribution, CategoricalDistribution):
        return int(np.argmax(point))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None:
        return min(max(low + round((point.item() - low) / step) * step, low), high)
    return point.item()


def _middle(value: float, distribution: BaseDistribution) -> Array:
    """The middle of what is rounded to a value."""
    if isinstance(distribution, CategoricalDistribution):
        return np.eye(len(distribution.choices))[int(value)]
    return np.array([value])
