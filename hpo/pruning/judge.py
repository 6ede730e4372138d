"""One of Optuna's pruners, asked about a training among others whose learning curves are given.

Optuna's pruners read a study: the trials in it, what these have reported, and notes the pruner itself left at them
(which rungs of successive halving they completed). Here the study is empty and its storage tells of whatever trials it
is handed; a trial's notes are written again, by the pruner, from its curve alone. So a verdict is a function of curves.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from optuna import logging
from optuna.pruners import BasePruner
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.task import Curve


class Judge:
    """`points`: of a whole learning curve. `name`: of the study, from which Hyperband draws a trial's bracket.

    Cost of a verdict: less than 1 µs a rival, and once 20 µs (Hyperband 150 µs) for one not seen before.
    """

    def __init__(self, pruner: BasePruner, points: int, name: str) -> None:
        self._pruner, self._points = pruner, points
        self._storage = _Handed()
        level = logging.get_verbosity()
        logging.set_verbosity(logging.WARNING)  # it would announce the study
        try:
            self._storage.create_new_study([StudyDirection.MINIMIZE], name)
        finally:
            logging.set_verbosity(level)
        self._study = Study(name, self._storage)
        self._seen: dict[int, tuple[Curve, FrozenTrial]] = {}

    def stops(self, number: int, curve: Curve, rivals: Mapping[int, Curve]) -> bool:
        """As `Pruner.stops`."""
        others = [self._trial(other, told) for other, told in rivals.items() if other != number]
        return self._asked(self._noted(number, curve[:-1]), curve[-1], others)

    def _trial(self, number: int, curve: Curve) -> FrozenTrial:
        """With the notes that belong to its curve."""
        if number not in self._seen or self._seen[number][0] != curve:
            self._seen[number] = curve, self._noted(number, curve)
        return self._seen[number][1]

    def _noted(self, number: int, curve: Curve) -> FrozenTrial:
        whole = len(curve) == self._points
        state = TrialState.COMPLETE if whole else TrialState.PRUNED
        value = curve[-1] if whole else None
        trial = FrozenTrial(number, state, value, None, None, {}, {}, {}, {}, {}, number)
        for loss in curve:
            self._asked(trial, loss, ())
        return trial

    def _asked(self, trial: FrozenTrial, loss: float, others: Sequence[FrozenTrial]) -> bool:
        """What the pruner says of a trial after one more point."""
        trial.intermediate_values[len(trial.intermediate_values) + 1] = loss
        self._storage.asked, self._storage.others = trial, others
        return self._pruner.prune(self._study, trial)


class _Handed(InMemoryStorage):
    """Tells of the trials it is handed; what is noted goes to the one that is asked about."""

    asked: FrozenTrial
    others: Sequence[FrozenTrial] = ()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        del study_id, deepcopy  # there is one study, and nobody changes a trial
        return [trial for trial in self.others if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        assert trial_id == self.asked._trial_id
        self.asked.system_attrs[key] = value
