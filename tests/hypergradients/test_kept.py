"""A training that is broken off, put away as arrays and gone on with: every digit of one that was never broken off."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from solvers_tiny import HYPER, NET, ROWS, made

from hpo.hypergradients import HYPERGRADIENTS, Training
from hpo.hypergradients.kept import States, found
from hpo.hypergradients.training import conclude, hypergradient, method, walk
from hpo.snapshot import arrays, tensors
from solvers.chain import through
from solvers.vectors import leaves

T = 24
STOPS = (3, 5, 10, 11, 17, 23)
STRENGTHS = ("implicit", "online")
"""They differentiate strengths alone, whatever the solver."""
METHODS = {
    "walk": {},
    "exact": {},
    "exact sqrt": {"memory": "sqrt"},
    "exact MiB": {"memory": 0.01},
    "drmad": {},
    "drmad arc": {"spacing": "arc", "knots": 3},
    "drmad passes": {"steps": 12},
    "truncated": {"steps": 24},
    "truncated 7": {"steps": 7},
    "forward": {"chunk": 4},
    "implicit": {"damping": 0.1},
    "online": {"every": 5},
    "online each": {"every": 1, "terms": 2},
    "reversible": {},
}
WITH_LOSS = {"sgd", "adam", "curveball"}
"""The solvers with a loss, which implicit asks for."""
CASES = [(name, "sgd") for name in METHODS] + [
    (name, solver)
    for solver in ("adam", "adagrad", "adadelta", "curveball", "dladmm", "hsic")
    for name in ("walk", "exact sqrt", "drmad", "truncated", "forward", "implicit", "online")
    if name != "implicit" or solver in WITH_LOSS
]


def training(name, solver):
    """A training that the method can serve, and its hyperparameters."""
    made_solver, net = made(solver), NET.get(solver, tiny.chain())
    batches = tiny.batches(ROWS, 60 if made_solver.whole else 20)
    steps = 8 if solver == "dladmm" else T
    of = Training(made_solver, partial(through, net), F.cross_entropy, batches, steps, ROWS, tiny.part(2, 40))
    held = [key for key in HYPER[solver] if not key.startswith("l2")]
    wanted = name.split(" ")[0] in STRENGTHS or (name == "drmad" and solver != "sgd")
    return of._replace(held=held if wanted else ()), HYPER[solver]


def begin(name, solver, stops, kept):
    """A following of a method made anew."""
    of, hyper = training(name, solver)
    if name == "walk":
        return walk(of, tiny.weights(), hyper, stops, kept)
    return method(name.split(" ")[0], **METHODS[name]).follow(of, tiny.weights(), hyper, stops, kept)


def until(last, following):
    """(All steps that are yielded, the state at the last of them)."""
    seen = []
    for step, state in following:
        seen.append(step)
        if step == last:
            return seen, state
    raise AssertionError(f"{last} was not yielded, but {seen}")


def put_away(kept):
    """What a database would give back of it."""
    return {name: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape) for name, x in arrays(kept).items()}


def end(name, following, state):
    """All that comes out."""
    derivative = None if name == "walk" else conclude(following)
    out = {f"state {i}": x for i, x in enumerate(leaves(state))}
    if derivative is None:
        return out, {}
    out |= {f"gradient {key}": x for key, x in derivative.gradient.items()}
    out |= {f"hyper {key}": x for key, x in (derivative.hyper or {}).items()}
    return out, dict(derivative.report)


def straight(name, solver, stops=(), kept=None):
    following = begin(name, solver, stops, kept)
    _, state = until(training(name, solver)[0].steps, following)
    return end(name, following, state)


def broken(name, solver, breaks, stops):
    """The same, broken off at some of its stops."""
    steps = training(name, solver)[0].steps
    stored, ever = {}, {}
    for here, last in pairwise([0, *breaks, steps]):
        kept = tensors(stored)
        following = begin(name, solver, stops, kept)
        seen, state = until(last, following)
        assert seen[0] == here
        assert {stop for stop in stops if here <= stop <= last} <= set(seen)
        stored = put_away(kept)
        for key, x in stored.items():
            assert ever.setdefault(key, x.tobytes()) == x.tobytes(), "what a name stands for has changed"
        following.close()
    following = begin(name, solver, stops, tensors(stored))
    seen, state = until(steps, following)
    assert seen == [steps]
    return end(name, following, state)


def same(one, other):
    (tensors_one, report_one), (tensors_other, report_other) = one, other
    assert tensors_one.keys() == tensors_other.keys()
    for key, x in tensors_one.items():
        assert torch.equal(x, tensors_other[key]), key
        assert x.dtype == tensors_other[key].dtype
    assert report_one == report_other


def test_every_method_is_here():
    assert {name.split(" ")[0] for name in METHODS} == {"walk", *HYPERGRADIENTS}


@pytest.mark.parametrize(("name", "solver"), CASES)
def test_broken_off_and_gone_on_with_it_has_the_digits_of_one_without_a_stop(name, solver):
    stops = STOPS if solver != "dladmm" else (2, 3, 6)
    expected = straight(name, solver)
    same(expected, straight(name, solver, stops))
    same(expected, straight(name, solver, stops, {}))
    same(expected, broken(name, solver, stops, stops))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(METHODS)), st.sets(st.integers(1, T - 1), min_size=2, max_size=5), st.data())
def test_wherever_it_is_broken_off_twice(name, stops, data):
    breaks = sorted(data.draw(st.sets(st.sampled_from(sorted(stops)), min_size=2, max_size=2)))
    same(straight(name, "sgd"), broken(name, "sgd", breaks, stops))


@pytest.mark.parametrize(
    ("name", "most"),
    [("walk", 1), ("implicit", 1), ("forward", 1), ("online", 2), ("truncated 7", 8), ("drmad", 4), ("drmad arc", 17),
     ("exact sqrt", 8), ("exact", T)],
)  # fmt: skip
def test_stops_everywhere_make_it_keep_no_more(name, most):
    kept, held = {}, []
    for step, _ in begin(name, "sgd", range(T), kept):
        held.append(found(kept, "state"))
        assert step == max(held[-1], default=0)
        if step == T:
            break
    assert len(held) == T + 1
    assert max(map(len, held)) <= most
    few = {}
    until(T, begin(name, "sgd", (), few))
    assert few.keys() == kept.keys()


def test_reversible_keeps_one_reel_and_the_words_of_its_store():
    kept = {}
    for step, _ in begin("reversible", "sgd", range(T), kept):
        assert found(kept, "reel") == ({step} if step else set())
        if step == T:
            break
    assert {name for name in kept if not name.startswith("reel/")} == set()
    hyper = {**HYPER["sgd"], "momentum": tiny.tensor(1e-4)}
    of, _ = training("reversible", "sgd")
    until(T, method("reversible").follow(of, tiny.weights(), hyper, (), kept := {}))
    assert len([name for name in kept if name.startswith("word/")]) == 9  # 24 · log₂ 10⁴ bits are 10 times 32


def test_a_store_with_words_is_gone_on_with():
    hyper = {**HYPER["sgd"], "momentum": tiny.tensor(1e-4)}
    of, _ = training("reversible", "sgd")
    ends, kept = [], {}
    for breaks in ((T,), (7, 8, 19, T)):
        for last in breaks:
            kept = tensors(put_away(kept))
            following = method("reversible").follow(of, tiny.weights(), hyper, (7, 8, 19), kept)
            _, state = until(last, following)
        ends.append(end("reversible", following, state))
        kept = {}
    same(*ends)
    assert ends[0][1]["recovered"] == 1


def test_what_is_still_the_start_s_own_is_not_kept():
    """Leaf 0, which says that there is a state, always; but not xᵀx, the last leaf of dlADMM."""
    kept = {}
    _, state = until(8, begin("walk", "dladmm", (), kept))
    assert sorted(kept) == sorted(f"state/8/{i}" for i in range(len(leaves(state)) - 1))


def test_the_backward_pass_of_exact_leaves_an_earlier_stand():
    kept = {}
    following = begin("exact sqrt", "sgd", (), kept)
    until(T, following)
    assert found(kept, "state") > {T}
    conclude(following)
    assert kept == {}
    expected, again = straight("exact sqrt", "sgd"), straight("exact sqrt", "sgd", (), kept)
    same(expected, again)


def test_what_stands_beyond_the_end_is_refused():
    for name in ("walk", "reversible"):
        of, hyper = training(name, "sgd")
        until(T, begin(name, "sgd", (), kept := {}))
        following = partial(method("reversible").follow if name == "reversible" else walk, of._replace(steps=9))
        with pytest.raises(ValueError, match="what was kept stands at step 24 of a training of 9 steps"):
            next(following(tiny.weights(), hyper, (), kept))


def test_states_are_a_mapping():
    of, hyper = training("walk", "sgd")
    states = States(of.solver.init(tiny.weights(), hyper, of.batches(0)), T, None)
    assert list(states) == [0] and len(states) == 1
    states[4] = states[0]
    assert sorted(states) == [0, 4] and states.last == 4
    assert all(torch.equal(x, y) for x, y in zip(leaves(states[4]), leaves(states[0]), strict=True))
    del states[4], states[0]
    with pytest.raises(KeyError):
        _ = states[0]
    assert states.kept == {}


def test_the_one_call_is_as_it_was():
    of, hyper = training("exact", "sgd")
    assert torch.isfinite(hypergradient("exact", of, tiny.weights(), hyper).value)
