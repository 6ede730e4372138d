"""Several trials under way at once: as many as were asked for, spread, and worth their number."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from landscapes import MIXED, Bowl, best, diverged, run

from hpo.failures import BadStudy
from hpo.registry import STRATEGIES, resolve
from hpo.strategies.chance import Random
from hpo.strategies.optuna import CMAES
from hpo.strategies.strategy import Strategy
from hpo.trial import Outcome, Proposal, Trial

LEARNING = ["cmaes", "gp", "skopt-et", "skopt-gp", "skopt-rf", "tpe"]
HIGH = Bowl(MIXED, centre=0.3, height=10.0)


def make(name: str, seed: int = 0, **options: Any) -> Strategy:
    return resolve(STRATEGIES[name])(MIXED, seed, **options)


def losses(outcomes: Iterable[Outcome | None]) -> list[float]:
    return [outcome.validation_loss for outcome in outcomes if outcome is not None]


def at_once(strategy: Strategy, evaluate: Callable[[Proposal], Outcome], rounds: int, size: int) -> list[Trial]:
    """Rounds of `size` trials, told when all of them have ended."""
    done: list[Trial] = []
    for _ in range(rounds):
        proposals = [strategy.ask(len(done) + i) for i in range(size)]
        done += [Trial(p, evaluate(p)) for p in proposals if p is not None]
        for trial in done[-size:]:
            strategy.tell(trial)
    return done


def test_whoever_learns_nothing_may_have_any_number_under_way() -> None:
    assert {name: make(name).batch for name in ("random", "qmc")} == {"random": None, "qmc": None}


@pytest.mark.parametrize("name", ["descent", "relay"])
def test_a_sequence_has_one_under_way(name: str) -> None:
    assert make(name, derivative="exact").batch == 1


@pytest.mark.parametrize("name", LEARNING)
def test_whoever_learns_has_as_many_as_the_study_says(name: str) -> None:
    assert make(name).batch == 1
    strategy = make(name, batch=5)
    assert strategy.settings["batch"] == 5
    run(strategy, HIGH, 1)
    assert strategy.batch == 5
    with pytest.raises(BadStudy, match="batch: 0 must be a whole number, 1 or more"):
        make(name, batch=0)


@pytest.mark.parametrize("name", LEARNING)
def test_eight_at_once_are_spread_and_look_where_it_is_low(name: str) -> None:
    """No two of them nearly the same, not all on a line, and lower than what is known on the whole."""
    low, high = MIXED.bounds()
    strategy, known = make(name, batch=8), run(Random(MIXED, 0), HIGH, 24)
    for trial in known:
        strategy.tell(trial)
    together = [p for number in range(24, 32) if (p := strategy.ask(number))]
    points = [(MIXED.flatten(p.values) - low) / (high - low) for p in together]
    assert len(points) == 8
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(points, 2)) > 0.02
    assert np.min(np.std(points, axis=0)) > 0.02
    assert statistics.median(losses(HIGH(p) for p in together)) < statistics.median(losses(t.outcome for t in known))


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_six_rounds_find_the_bottom_of_a_bowl(name: str) -> None:
    """Better than chance with as many trials, and than the same method one at a time with as many rounds."""

    def found(seed: int) -> float:
        return best(at_once(make(name, seed, batch=8), HIGH, rounds=6, size=8))

    several = statistics.median(found(seed) for seed in range(3))
    chance = statistics.median(best(run(Random(MIXED, seed), HIGH, 48)) for seed in range(3))
    single = statistics.median(best(run(make(name, seed), HIGH, 6)) for seed in range(3))
    assert several < 0.7 * min(chance, single)


def test_a_generation_is_made_of_whole_batches() -> None:
    sizes = [(1, 8), (3, 9), (8, 8), (32, 32)]
    assert [CMAES(MIXED, 0, batch=batch).settings["popsize"] for batch, _ in sizes] == [size for _, size in sizes]
    assert CMAES(MIXED, 0, population=10, batch=4).settings["popsize"] == 10
    with pytest.raises(BadStudy, match="batch: 8 is more than a generation, population 6: give batch 6 at most"):
        CMAES(MIXED, 0, population=6, batch=8)


@pytest.mark.parametrize("evaluate", [HIGH, diverged])
def test_cmaes_sends_the_defaults_ahead(evaluate: Callable[[Proposal], Outcome]) -> None:
    strategy = CMAES(MIXED, 0, batch=8)
    first = strategy.ask(0)
    strategy.tell(Trial(first))
    assert strategy.batch == 1
    strategy.tell(Trial(first, evaluate(first)))
    assert strategy.batch == 8


def test_no_trial_of_a_batch_falls_between_two_generations() -> None:
    strategy = CMAES(MIXED, 0, batch=8)
    run(strategy, HIGH, 1)
    for start in (1, 9, 17):
        for proposal in [strategy.ask(number) for number in range(start, start + 8)]:
            strategy.tell(Trial(proposal, HIGH(proposal)))
    assert strategy._study is not None
    generations = [t.system_attrs["cma:generation"] for t in strategy._study.trials[1:]]
    assert generations == [0] * 8 + [1] * 8 + [2] * 8
