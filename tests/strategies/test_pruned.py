"""What a strategy makes of a trial that was stopped on the way."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from landscapes import MIXED, Bowl, diverged, group, run, same
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from hpo.registry import STRATEGIES, resolve
from hpo.space import Space
from hpo.strategies.optuna import TPE
from hpo.strategies.strategy import trial_seed
from hpo.trial import Outcome, Proposal, Trial

ONE = Space((group("rate", 1, 0.0, 1.0, 0.5, False),))
STEPS = (60, 120, 180)


def pruned(proposal: Proposal, loss: float | None = None, points: int = 2) -> Outcome:
    """Stopped after some points, its losses falling to `loss`, or to what the bowl says."""
    last = Bowl(MIXED)(proposal).validation_loss if loss is None else loss
    curve = np.array([(step, 1.0, last + (points - k)) for k, step in enumerate(STEPS[:points], 1)])
    return Outcome("pruned", last, float("nan"), curve=curve, failure="pruned at step 120 of 600 by asha")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::optuna.exceptions.ExperimentalWarning")
def test_tpe_learns_from_them_as_in_a_plain_optuna_study() -> None:
    def ended(number: int, rate: float) -> tuple[float, int]:
        """The loss, and how many points the training came."""
        return (rate - 0.2) ** 2, 3 if number % 3 == 0 else 1 + number % 2

    study = optuna.create_study()
    study.enqueue_trial({"rate[0]": 0.5})
    strategy = TPE(ONE, 3)
    for number in range(30):
        study.sampler = TPESampler(seed=trial_seed(3, number))
        trial = study.ask()
        rate = trial.suggest_float("rate[0]", 0.0, 1.0)
        proposal = strategy.ask(number)
        assert proposal.values["rate"].tolist() == [rate]
        loss, points = ended(number, rate)
        outcome = pruned(proposal, loss, points)
        for step, _, value in outcome.curve:
            trial.report(value, int(step))
        if points == 3:
            outcome = Outcome("complete", loss, loss)
            study.tell(trial, loss)
        else:
            study.tell(trial, state=TrialState.PRUNED)
        strategy.tell(Trial(proposal, outcome))


@pytest.mark.parametrize("name", ["cmaes", "gp", "qmc", "random"])
def test_the_other_samplers_of_optuna_leave_them_out(name: str) -> None:
    strategies = [resolve(STRATEGIES[name])(MIXED, 0, **({"startup": 3} if name == "gp" else {})) for _ in range(2)]
    for strategy in strategies:
        run(strategy, Bowl(MIXED), 6)
    for strategy, outcome in zip(strategies, (pruned, diverged), strict=True):
        proposal = strategy.ask(6)
        strategy.tell(Trial(proposal, outcome(proposal)))
    assert same(strategies[0].ask(7), strategies[1].ask(7))


@pytest.mark.parametrize("name", ["skopt-gp", "skopt-rf", "skopt-et"])
@pytest.mark.parametrize("loss", [2.0, float("inf")])
def test_skopt_is_told_the_last_loss_or_the_worst(name: str, loss: float) -> None:
    strategies = [resolve(STRATEGIES[name])(MIXED, 0, startup=3) for _ in range(2)]
    for strategy in strategies:
        trials = run(strategy, Bowl(MIXED), 5)
    worst = max(t.outcome.validation_loss for t in trials if t.outcome is not None)
    for strategy, stopped in zip(strategies, (True, False), strict=True):
        proposal = strategy.ask(5)
        told = loss if np.isfinite(loss) else worst
        strategy.tell(Trial(proposal, pruned(proposal, loss) if stopped else Outcome("complete", told, told)))
    assert same(strategies[0].ask(6), strategies[1].ask(6))


def test_a_pruned_trial_is_never_usable() -> None:
    assert not pruned(Proposal(0, MIXED.defaults())).usable
