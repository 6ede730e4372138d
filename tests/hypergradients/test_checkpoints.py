"""Reversing a training from few states: the digits of the recorded pass, at the fewest steps taken again."""

from functools import cache

import pytest
import tiny
import torch

from hpo.hypergradients.checkpoints import again, backwards, enough, spine
from hpo.hypergradients.exact import MIB, Exact
from hpo.hypergradients.training import hypergradient
from solvers.sgd import SGD

HYPER = {"momentum": tiny.tensor(0.5), **tiny.per_neuron_rate(), **tiny.per_neuron_l2()}


class Counted(SGD):
    """Counts the steps taken without a graph: the training's, and those taken again."""

    taken = 0

    def step(self, state, hyper, batch):
        if not torch.is_grad_enabled():
            self.taken += 1
        return super().step(state, hyper, batch)


@cache
def fewest(steps, slots):
    """The optimum by dynamic programming: steps run to reverse a stretch, its first sweep included."""
    if steps == 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    return min(m + fewest(steps - m, slots - 1) + fewest(m, slots) for m in range(1, steps))


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 9, 30, 40])
def test_what_is_taken_again_is_the_optimum_and_what_is_charged(slots):
    for steps in (1, 2, 3, 7, 20, 40):
        training = tiny.training(Counted(tiny.loss), steps)
        states = {0: training.solver.init(tiny.weights(), HYPER, training.batches(0))}
        kept = spine(0, steps, slots)
        for t in range(1, steps):
            with torch.no_grad():
                states[t] = training.solver.step(states[t - 1], HYPER, training.batches(t - 1))
        truth = dict(states)
        states = {t: state for t, state in states.items() if t in kept}
        assert len(states) <= slots + 1
        training.solver.taken = 0
        seen = []
        for t, state in backwards(training, HYPER, states, steps, slots):
            seen.append(t)
            assert all(torch.equal(x, truth[t].weights[n]) for n, x in state.weights.items())
        assert seen == list(range(steps - 1, -1, -1))
        assert training.solver.taken == again(steps, slots) == max(0, fewest(steps, slots) - (steps - 1))


def test_sqrt_takes_no_step_more_than_once_again():
    for steps in (1, 10, 500, 2000, 10_000):
        assert again(steps, enough(steps)) < steps
        assert enough(steps) <= (2 * steps) ** 0.5 + 1


@pytest.mark.parametrize("memory", ["sqrt", 0.02, 0.006, 0.003])
def test_same_digits_under_every_cap(memory):
    training = tiny.training(SGD(tiny.loss), 50)
    recorded = hypergradient("exact", training, tiny.weights(), HYPER)
    capped = hypergradient("exact", training, tiny.weights(), HYPER, memory=memory)
    assert torch.equal(capped.value, recorded.value)
    for name, slope in recorded.gradient.items():
        assert torch.equal(capped.gradient[name], slope)
    assert capped.gradient_evaluations >= recorded.gradient_evaluations


def test_the_cap_is_kept_and_announced():
    training = tiny.training(SGD(tiny.loss), 50)
    one = 2 * 8 * sum(w.numel() for w in tiny.weights().values())
    for states in (2, 5, 17):
        cap = (states + 0.5) * one / MIB
        charge = Exact(memory=cap).charge(training, tiny.weights(), HYPER)
        assert charge.memory == states * one <= cap * MIB
        assert charge.gradient_evaluations == 4 * 50 + again(50, states - 1) + 2
    assert Exact().charge(training, tiny.weights(), HYPER).memory == 50 * one


def test_caps_that_hold_nothing_are_refused():
    training = tiny.training(SGD(tiny.loss), 50)
    with pytest.raises(ValueError, match=r"memory 0.0005 MiB is too little: two states of"):
        hypergradient("exact", training, tiny.weights(), HYPER, memory=0.0005)
    with pytest.raises(ValueError, match="memory -1 must be all, sqrt or a number of MiB above 0"):
        hypergradient("exact", training, tiny.weights(), HYPER, memory=-1)
