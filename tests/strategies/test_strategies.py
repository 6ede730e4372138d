"""What every strategy keeps: the defaults first, a fold over trials, inside the bounds, whatever becomes of them."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw
from landscapes import MIXED, Bowl, diverged, group, run, same, with_infinite_slope, without_hypergradient

from hpo.registry import DECIDERS, STRATEGIES, resolve
from hpo.space import Space
from hpo.strategies.strategy import Strategy
from hpo.trial import Outcome, Proposal, Trial

# Few random trials and small generations, so that a short run reaches what makes each method itself.
OPTIONS: dict[str, dict[str, Any]] = {
    "descent": {"derivative": "exact"},
    "descent of 3": {"derivative": "exact", "restarts": 3, "rung": 1},
    "relay": {"derivative": "online"},
    "tpe": {"startup": 3},
    "gp": {"startup": 3},
    "cmaes": {"population": 4},
    "skopt-gp": {"startup": 3},
    "skopt-rf": {"startup": 3},
    "skopt-et": {"startup": 3},
}
NAMES = sorted({*STRATEGIES, *OPTIONS})
SAMPLERS = sorted(set(STRATEGIES) - set(DECIDERS.values()))


def make(name: str, space: Space = MIXED, seed: int = 0) -> Strategy:
    return resolve(STRATEGIES[name.split()[0]])(space, seed, **OPTIONS.get(name, {}))


def eventful(proposal: Proposal) -> Outcome:
    """Good trials, and among them every way in which one can go wrong."""
    good = Bowl(MIXED)(proposal)
    match proposal.number:
        case 2:
            return diverged(proposal)
        case 3:
            return Outcome("pruned", 2.0, float("nan"), curve=np.array([(60.0, 3.0, 2.5), (120.0, 1.9, 2.0)]))
        case 4:
            return without_hypergradient(good)
        case 5:
            return Outcome("complete", float("nan"), 1.0)
        case 6:
            return with_infinite_slope(good)
    return good


@pytest.mark.parametrize("name", NAMES)
def test_defaults_come_first(name: str) -> None:
    proposal = make(name).ask(0)
    assert proposal is not None
    assert same(proposal, Proposal(0, MIXED.defaults(), proposal.derivative))


@pytest.mark.parametrize("seed", [0, 2**31])
@pytest.mark.parametrize("name", NAMES)
def test_replay_is_live_at_every_prefix(name: str, seed: int) -> None:
    trials = run(make(name, seed=seed), eventful, 8)
    for known in range(len(trials)):
        replayed = make(name, seed=seed)
        told = trials[:known]
        random.Random(known).shuffle(told)
        for trial in told:
            replayed.tell(trial)
        assert same(replayed.ask(known), trials[known].proposal), f"trial {known}"


@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_strategy_goes_on_as_the_live_one(name: str) -> None:
    live = run(make(name), eventful, 7)
    resumed = make(name)
    for trial in live[:3]:
        resumed.tell(trial)
    for trial in live[3:]:
        assert same(resumed.ask(trial.number), trial.proposal)
        resumed.tell(trial)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_differ(name: str) -> None:
    points = [MIXED.flatten(t.proposal.values) for t in run(make(name), Bowl(MIXED), 7)]
    assert len({p.tobytes() for p in points}) == len(points)


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeds_differ(name: str) -> None:
    one, other = (run(make(name, seed=seed), Bowl(MIXED), 2)[1].proposal.values for seed in (0, 1))
    assert not np.array_equal(one["l2"], other["l2"])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_failures(name: str) -> None:
    trials = run(make(name), diverged, 6)
    points = {MIXED.flatten(t.proposal.values).tobytes() for t in trials}
    assert len(points) == len(trials)


@pytest.mark.parametrize("name", SAMPLERS)
def test_running_trials_are_not_repeated(name: str) -> None:
    strategy = make(name)
    run(strategy, Bowl(MIXED), 5)
    together = [strategy.ask(number) for number in (5, 6, 7)]
    points = [MIXED.flatten(p.values) for p in together if p is not None]
    assert len(points) == 3
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(points, 2)) > 1e-6


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_strategy_can_be_told_of_running_trials(name: str) -> None:
    asked = make(name)
    trials = run(asked, Bowl(MIXED), 5)
    running = asked.ask(5)
    assert running is not None
    told = make(name)
    for trial in [*trials, Trial(running)]:
        told.tell(trial)
    assert same(told.ask(6), asked.ask(6))


@pytest.mark.parametrize("name", SAMPLERS)
def test_outcomes_in_any_order_and_late(name: str) -> None:
    trials = run(make(name), Bowl(MIXED), 6)
    strategy = make(name)
    for number in (4, 0, 3, 2):
        strategy.tell(trials[number])
    early = strategy.ask(5)  # nobody has told of trial 1 yet
    assert early is not None
    strategy.tell(trials[1])
    strategy.tell(Trial(early, Bowl(MIXED)(early)))
    fresh = make(name)
    for trial in [*trials[:5], Trial(early, Bowl(MIXED)(early))]:
        fresh.tell(trial)
    assert same(strategy.ask(6), fresh.ask(6))


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_plain_values_and_hold_the_options(name: str) -> None:
    written = json.loads(json.dumps(make(name).settings))
    assert written
    assert set(OPTIONS.get(name, {}).values()) <= set(_leaves(written))


def _leaves(value: object) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, list) else [value]


@draw.composite
def spaces(drawn: draw.DrawFn) -> Space:
    groups = []
    for name in ("l2", "learning_rate", "momentum")[: drawn(draw.integers(1, 3))]:
        log = drawn(draw.booleans())
        low = drawn(draw.floats(1e-8, 1e-2) if log else draw.floats(-10, 10))
        high = low * drawn(draw.floats(1.5, 1e6)) if log else low + drawn(draw.floats(1e-3, 100))
        default = drawn(draw.sampled_from([low, high]) | draw.floats(low, high))
        groups.append(group(name, drawn(draw.integers(1, 3)), low, high, default, log))
    return Space(tuple(groups))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None, database=None)
@given(space=spaces(), centre=draw.floats(-1, 2))
def test_bounds_are_kept(name: str, space: Space, centre: float) -> None:
    for trial in run(make(name, space), Bowl(space, centre), 5):
        for g in space.groups:
            values = trial.proposal.values[g.name]
            assert values.shape == (g.size,)
            assert values.dtype == np.float64
            assert np.all((g.low <= values) & (values <= g.high))


def test_nothing_heavy_is_imported() -> None:
    modules = sorted({path.partition(":")[0] for path in STRATEGIES.values()})
    heavy = "torch", "optuna", "skopt", "sklearn", "pandas"
    code = f"import sys, {', '.join(modules)}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_a_number_may_be_asked_for_again(name: str) -> None:
    asked, once = make(name), make(name)
    for trial in run(make(name), eventful, 5):
        first = asked.ask(trial.number)
        assert same(asked.ask(trial.number), first)
        assert same(first, once.ask(trial.number))
        asked.tell(trial)
        once.tell(trial)


@pytest.mark.parametrize("name", NAMES)
def test_another_run_may_be_faster_and_propose_something_else(name: str) -> None:
    """Told of other values than it proposed itself, running and then ended, it goes on as if it had not been asked."""
    mine, fresh = make(name), make(name)
    for trial in run(make(name), eventful, 5):
        proposal = mine.ask(trial.number)
        assert proposal is not None
        theirs = Proposal(trial.number, {k: v * 0.999 for k, v in proposal.values.items()}, proposal.derivative)
        told = Trial(theirs, eventful(theirs))
        mine.tell(Trial(theirs))
        if name in SAMPLERS:
            mine.ask(trial.number + 1)  # while theirs runs
        for strategy in (mine, fresh):
            strategy.tell(told)
    assert same(mine.ask(5), fresh.ask(5))
