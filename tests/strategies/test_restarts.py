"""Several descents: each is a descent of its own, the losers are stopped on time, and one alone is what it was."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw
from landscapes import MIXED, Bowl, best, diverged, group, run, same, without_hypergradient

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies.descent import Descent
from hpo.strategies.restarts import Restarts
from hpo.trial import Outcome, Proposal, Trial


def restarts(space: Space = MIXED, seed: int = 0, **options: Any) -> Restarts:
    return Restarts(space, seed, derivative="exact", **options)


def eventful(proposal: Proposal) -> Outcome:
    """Every seventh trial fails, every fifth has no hypergradient."""
    if proposal.number % 7 == 3:
        return diverged(proposal)
    good = Bowl(MIXED)(proposal)
    return without_hypergradient(good) if proposal.number % 5 == 4 else good


def alone(strategy: Restarts, member: int) -> Descent:
    """A member's descent, made from what the settings say it drew."""
    drawn = strategy.settings["members"][member]
    space = Space(tuple(replace(g, default=drawn["start"][g.name]) for g in MIXED.groups))
    return Descent(space, 0, derivative="exact", rate=drawn["rate"], betas=tuple(drawn["betas"]))


def owners(strategy: Restarts, losses: list[float], trials: int) -> list[int]:
    """Whose each trial is, where all trials of a member have one loss."""
    found = []
    for number in range(trials):
        proposal = strategy.ask(number)
        assert proposal is not None
        found.append(strategy._rung.place(number)[0])
        strategy.tell(Trial(proposal, replace(Bowl(MIXED)(proposal), validation_loss=losses[found[-1]])))
    return found


@pytest.mark.parametrize("options", [{}, {"rate": 0.1, "betas": (0.5, 0.9)}, {"step": "sign"}, {"step": "plain"}])
def test_one_is_the_descent_itself(options: dict[str, Any]) -> None:
    ours, plain = restarts(**options), Descent(MIXED, 0, derivative="exact", **options)
    for one, other in zip(run(ours, eventful, 20), run(plain, eventful, 20), strict=True):
        assert same(one.proposal, other.proposal)
    assert ours.settings == {**plain.settings, "restarts": 1}
    assert ours.batch == 1


def test_each_member_descends_as_if_it_were_alone() -> None:
    strategy = restarts(restarts=3, rung=4)
    trials = run(strategy, eventful, 12)
    for member in range(3):
        descent = alone(strategy, member)
        for own, trial in enumerate(trials[member::3]):
            assert same(descent.ask(own), replace(trial.proposal, number=own))
            descent.tell(replace(trial, proposal=replace(trial.proposal, number=own)))


def test_the_first_member_is_as_the_options_say_and_the_others_are_near() -> None:
    strategy = restarts(restarts=40, rate=0.2)
    first, *others = strategy.settings["members"]
    assert first == {"rate": 0.2, "betas": [0.8, 0.99], "start": {g.name: g.default for g in MIXED.groups}}
    assert len({m["rate"] for m in others}) == 39
    for member in others:
        assert 1 / 4 <= member["rate"] / 0.2 <= 4
        assert all(1 / 4 <= (1 - b) / (1 - a) <= 4 for a, b in zip((0.8, 0.99), member["betas"], strict=True))
        assert 1 / 4 <= member["start"]["l2"] / 1e-3 <= 4
        assert 1 / 4 <= member["start"]["learning_rate"] / 0.05 <= 4
        assert 0 <= member["start"]["momentum"] <= 0.099 * math.log(4)


@pytest.mark.parametrize("count", [2, 4, 9])
def test_the_draws_are_spread_over_the_whole_range(count: int) -> None:
    others = restarts(restarts=count, rate=0.2).settings["members"][1:]
    figures = np.array([[m["rate"] / 0.2, m["start"]["l2"] / 1e-3, (1 - m["betas"][0]) / 0.2] for m in others])
    parts = np.floor((np.log(figures) / math.log(16) + 0.5) * (count - 1))
    for figure in parts.T:
        assert sorted(figure) == list(range(count - 1))


def test_the_draws_are_the_seeds() -> None:
    one, again, other = (restarts(seed=seed, restarts=3).settings["members"] for seed in (0, 0, 1))
    assert one == again
    assert other[0] == one[0]
    assert all(a["rate"] != b["rate"] and a["start"] != b["start"] for a, b in zip(one[1:], other[1:], strict=True))


def test_a_sign_has_a_rate_and_a_start_to_draw() -> None:
    members = restarts(restarts=3, step="sign").settings["members"]
    assert len({m["rate"] for m in members}) == 3
    assert all(m["betas"] == [0.8, 0.99] for m in members)


def test_decays_that_would_be_below_zero_are_zero() -> None:
    members = restarts(restarts=30, betas=(0.0, 0.5)).settings["members"]
    assert all(0 <= beta < 1 for m in members for beta in m["betas"])
    assert {0.0} < {m["betas"][0] for m in members}


def test_rungs_grow_and_the_best_go_on() -> None:
    strategy = restarts(restarts=8, rung=2)
    losses = [5.0, 1.0, 4.0, 2.0, 8.0, 7.0, 6.0, 3.0]
    assert owners(strategy, losses, 52) == [
        *[0, 1, 2, 3, 4, 5, 6, 7] * 2,
        *[1, 2, 3, 7] * 4,
        *[1, 3] * 8,
        *[1] * 4,
    ]


@pytest.mark.parametrize(("count", "halving", "left"), [(8, 2, [8, 4, 2, 1]), (9, 3, [9, 3, 1]), (7, 2, [7, 3, 1])])
def test_so_many_are_under_way_at_once(count: int, halving: int, left: list[int]) -> None:
    strategy, number, seen = restarts(restarts=count, halving=halving, rung=1), 0, []
    while strategy.batch > 1 or not seen:
        seen.append(strategy.batch)
        for _ in range(halving ** (len(seen) - 1)):
            together = [strategy.ask(number + i) for i in range(strategy.batch)]
            assert strategy.ask(number + strategy.batch) is None
            number += len(together)
            for proposal in together:
                assert proposal is not None
                strategy.tell(Trial(proposal, Bowl(MIXED)(proposal)))
    assert [*seen, strategy.batch] == left


def test_a_member_waits_for_its_own_last_trial_only_and_all_for_the_end_of_a_rung() -> None:
    strategy = restarts(restarts=2, rung=2)
    slow, quick = strategy.ask(0), strategy.ask(1)
    assert slow is not None and quick is not None
    strategy.tell(Trial(quick, Bowl(MIXED)(quick)))
    strategy.tell(Trial(slow))  # runs still
    assert strategy.ask(2) is None
    again = strategy.ask(3)
    assert again is not None
    strategy.tell(Trial(again, Bowl(MIXED)(again)))
    assert strategy.ask(4) is None
    strategy.tell(Trial(slow, Bowl(MIXED)(slow)))
    last = strategy.ask(2)
    assert last is not None
    assert strategy.ask(4) is None
    strategy.tell(Trial(last, Bowl(MIXED)(last)))
    assert strategy.ask(4) is not None


def test_failed_trials_win_nothing() -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        return Bowl(MIXED, centre=5.0)(proposal) if proposal.number % 4 == 2 else diverged(proposal)

    strategy = restarts(restarts=4, rung=2, halving=4)
    run(strategy, evaluate, 8)
    assert strategy._rung.members == (2,)
    hopeless = restarts(restarts=4, rung=1)
    run(hopeless, diverged, 4)
    assert hopeless._rung.members == (0, 1), "of equals the first, which has the defaults"


def test_a_loss_that_is_not_finite_wins_nothing() -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        return replace(Bowl(MIXED)(proposal), validation_loss=-math.inf if proposal.number == 1 else 1.0)

    strategy = restarts(restarts=2, rung=1)
    run(strategy, evaluate, 2)
    assert strategy._rung.members == (0,)


def test_a_rate_far_too_small_is_made_good() -> None:
    """Where the given rate is an eighth of what would do, the members that drew more are kept."""
    many = Space((group("l2", 100, 1e-6, 1.0, 1e-3, True),))
    found = [best(run(restarts(many, s, restarts=8, rung=2, rate=0.02), Bowl(many), 60)) for s in range(5)]
    single = best(run(restarts(many, rate=0.02), Bowl(many), 60))
    assert np.median(found) < 0.8 * single


@settings(max_examples=30, deadline=None, database=None)
@given(
    count=draw.integers(1, 6),
    rung=draw.integers(1, 3),
    halving=draw.integers(2, 3),
    known=draw.integers(0, 25),
    order=draw.integers(0, 1000),
    evaluate=draw.sampled_from([Bowl(MIXED), eventful, diverged]),
)
def test_told_in_any_order_it_stands_where_it_stood(
    count: int, rung: int, halving: int, known: int, order: int, evaluate: Callable[[Proposal], Outcome]
) -> None:
    options: dict[str, Any] = {"restarts": count} | ({"rung": rung, "halving": halving} if count > 1 else {})
    live, told = restarts(**options), restarts(**options)
    trials = run(live, evaluate, known)
    random.Random(order).shuffle(trials)
    for trial in trials:
        told.tell(trial)
    assert same(told.ask(known), live.ask(known))
    assert told.batch == live.batch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restarts": 0}, "restarts: 0 must be a whole number, 1 or more"),
        ({"restarts": 2, "rung": 0}, "rung: 0 must be a whole number, 1 or more"),
        ({"restarts": 2, "halving": 1}, "halving: 1 must be a whole number, 2 or more"),
        ({"rung": 5}, "rung: 5 belongs to several restarts: set restarts above 1, or leave it out"),
        ({"halving": 3}, "halving: 3 belongs to several restarts"),
        ({"restarts": 2, "rate": 0}, "rate: 0 must be a finite number above 0"),
        ({"restarts": 2, "step": "sign", "betas": [0.9, 0.9]}, "belongs to step layered or adam, not to sign"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadStudy) as refused:
        restarts(**options)
    assert message in str(refused.value)
