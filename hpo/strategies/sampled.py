"""A strategy that is one of Optuna's samplers (Akiba et al. 2019), driven through one small study in memory.

Trial n of ours is trial n there, with one float named `l2[3]` for every value, in natural units. A sampler is made
anew for each question, with a seed of its own made from (seed, number), so that nothing lives in a generator: a study
told the recorded trials stands where the live one stood. What a sampler keeps in the study itself (CMA-ES its
distribution, QMC its place in the sequence) is kept again when a recorded trial is entered: the sampler is asked as it
was then, and its answer set aside for the recorded values.

A trial that failed or has no finite loss is told as failed, and all of Optuna's samplers leave it out. A pruned one is
told as pruned, with its losses on the way: TPE counts it as worse than the complete ones, and than the pruned ones that
came further; the others leave it out.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hpo.space import Space
from hpo.trial import Outcome, Proposal, Trial, Values

if TYPE_CHECKING:
    import optuna


class Sampled(ABC):
    """A strategy that asks an Optuna sampler. `retraced`: the sampler keeps notes in the study itself."""

    retraced: ClassVar[bool] = False

    def __init__(self, space: Space, seed: int, sampler: str, settings: Mapping[str, Any], batch: int | None) -> None:
        self.space = space
        self.seed = seed
        self._batch = batch
        self.settings: Mapping[str, Any] = {
            "optuna": version("optuna"),
            "sampler": sampler,
            "batch": batch,
            **settings,
        }
        self._known: dict[int, Trial] = {}
        self._study: optuna.Study | None = None
        self._entered = 0
        self._running: dict[int, optuna.Trial] = {}

    @property
    def batch(self) -> int | None:
        """As many as the study file says; None for a sampler that learns nothing."""
        return self._batch

    @abstractmethod
    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A fresh sampler, to be asked for trial `number`."""

    def ask(self, number: int) -> Proposal:
        """The sampler's choice, given the outcomes told so far and the trials that still run."""
        if number < self._entered:
            self._start_over()  # what was asked for this number before came to nothing
        self._known.pop(number, None)
        with _quiet():
            study = self._study = self._study or _new_study()
            for earlier in sorted(self._running):
                self._catch_up(study, earlier)
            for earlier in range(self._entered, number):
                self._catch_up(study, earlier)
            chosen = self._enter(study, number, self.space.defaults() if number == 0 else None)
        proposal = Proposal(number, self._values(chosen.params))
        self._known[number] = Trial(proposal)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Note the outcome; Optuna hears of it, in the order of the numbers, when the next proposal is asked for."""
        known = self._known.get(trial.number)
        if trial.number < self._entered and (known is None or not _same(known.proposal, trial.proposal)):
            self._start_over()  # its place was given up, or another trial took it
        if trial.outcome is not None or known is None or known.outcome is None:
            self._known[trial.number] = trial

    def _start_over(self) -> None:
        self._study, self._entered, self._running = None, 0, {}

    def _catch_up(self, study: optuna.Study, number: int) -> None:
        known = self._known.get(number)
        if number == self._entered:
            if known is None:
                self._give_up(study)
            else:
                self._enter(study, number, known.proposal.values)
        if known is not None and known.outcome is not None and number in self._running:
            _close(study, self._running.pop(number), known.outcome)

    def _enter(self, study: optuna.Study, number: int, values: Values | None) -> optuna.Trial:
        """A running trial at these values, or where the sampler wants it."""
        study.sampler = self.sampler(number)
        if values is not None:
            study.enqueue_trial(
                {parameter(k, i): float(x) for k, vector in values.items() for i, x in enumerate(vector)}
            )
        trial = study.ask()
        if values is not None and self.retraced:
            _ = trial.relative_params  # asking is what makes the sampler write its notes
        for group in self.space.groups:
            for i in range(group.size):
                trial.suggest_float(parameter(group.name, i), group.low, group.high, log=group.log)
        self._entered += 1
        self._running[number] = trial
        return trial

    def _give_up(self, study: optuna.Study) -> None:
        """Keep the place of a trial nobody has told of, so that the numbers agree."""
        import optuna

        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
        self._entered += 1

    def _values(self, params: Mapping[str, float]) -> Values:
        named = {g.name: np.array([params[parameter(g.name, i)] for i in range(g.size)]) for g in self.space.groups}
        return {g.name: np.clip(named[g.name], g.low, g.high) for g in self.space.groups}


def _new_study() -> optuna.Study:
    import optuna

    return optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), pruner=optuna.pruners.NopPruner(), direction="minimize"
    )


def _close(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    import optuna

    if outcome.usable:
        study.tell(trial, outcome.validation_loss)
    elif outcome.state == "pruned":
        for step, _, loss in outcome.curve:
            trial.report(loss, int(step))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _same(asked: Proposal, told: Proposal) -> bool:
    return all(np.array_equal(values, told.values[name]) for name, values in asked.values.items())


def parameter(group: str, index: int) -> str:
    """What one value of a group is called in Optuna."""
    return f"{group}[{index}]"


@contextmanager
def _quiet() -> Iterator[None]:
    """No log line for each trial, and no warning that an argument written out on purpose is experimental or to go."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings are advice: GP would like to have greenlet
    try:
        with warnings.catch_warnings():
            written = "prior_weight|consider_magic_clip|consider_endpoints|gamma|weights|x0|sigma0"
            warnings.filterwarnings("ignore", f"`({written})` has been deprecated", FutureWarning)
            early = "QMCSampler is|Argument ``use_separable_cma`` is an"
            warnings.filterwarnings("ignore", f"({early}) experimental", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
