"""Trials evaluated together have the outcomes they would have alone, whatever becomes of one of them."""

import math
import uuid

import numpy as np
import pytest
import studies_small

from hpo import interruption, preparation, together
from hpo.evaluation import evaluate
from hpo.execution.serial import Serial
from hpo.placement import place
from hpo.probe import widths
from hpo.recipe import recipe
from hpo.stack import Replica, kind
from hpo.storage.claims import Claim, Terms
from hpo.storage.desk import Desk, TakenOver
from hpo.storage.ledger import Ledger
from hpo.task import Task
from hpo.together import evaluate_together
from hpo.trial import Proposal

TOLERANCE = 1e-4
"""Of losses and slopes after thirty steps; a step's rounding is some 1e-7."""


def tasks(method, count, seeds=1, **changes):
    """So many trials, arm by arm, at values around the defaults."""
    study = studies_small.study(methods=[method], seeds=seeds, **changes)
    plans = preparation.plans(study, Serial(study.resources), None)
    found = []
    for i in range(count):
        arm = study.arms()[i % len(study.arms())]
        plan = plans[arm.label]
        moved = plan.space.flatten(plan.space.defaults()) + np.random.default_rng(i).normal(0, 0.3, plan.space.size)
        derivative = None if method["name"] == "random" else method["name"]
        found.append(Task(study, arm, plan, Proposal(i, plan.space.unflatten(moved), derivative), None))
    return found


def close(one, other):
    assert one.state == other.state
    assert one.failure == other.failure
    assert one.cost.gradient_evaluations == other.cost.gradient_evaluations
    assert one.report.keys() == other.report.keys()
    np.testing.assert_allclose(one.validation_loss, other.validation_loss, rtol=TOLERANCE)
    np.testing.assert_allclose(one.test_loss, other.test_loss, rtol=TOLERANCE)
    np.testing.assert_allclose(one.curve, other.curve, rtol=TOLERANCE)
    assert (one.hypergradient is None) == (other.hypergradient is None)
    for name, slopes in (one.hypergradient or {}).items():
        assert np.linalg.norm(slopes - other.hypergradient[name]) <= TOLERANCE * np.linalg.norm(slopes)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("method", ["random", "exact", "truncated", "drmad"])
def test_each_has_the_outcome_it_would_have_alone(method, seeds, monkeypatch):
    given = tasks({"name": method}, 3, seeds)
    expected = [evaluate(task) for task in given]
    monkeypatch.setattr(together, "evaluate", None)  # nothing falls back to one after another
    for one, other in zip(evaluate_together(given, [None] * 3), expected, strict=True):
        close(one, other)
        assert one.cost.seconds > 0


@pytest.mark.parametrize("method", ["exact", "truncated"])
def test_a_solver_that_reads_out_with_its_own_rows_is_parted_by_seed(method):
    training = {"solver": "hsic", "steps": 4, "batch_size": 50}
    given = tasks({"name": method}, 4, 2, training=training, space={"l2": {"per": "neuron"}})
    for one, task in zip(evaluate_together(given, [None] * 4), given, strict=True):
        close(one, evaluate(task))


def test_states_of_limited_memory_are_every_trials_own(monkeypatch):
    given = tasks({"name": "exact", "memory": 0.05}, 3)
    expected = [evaluate(task) for task in given]
    monkeypatch.setattr(together, "evaluate", None)
    for one, other in zip(evaluate_together(given, [None] * 3), expected, strict=True):
        close(one, other)


def test_one_that_diverges_is_settled_and_the_others_go_on():
    space = {"l2": {"per": "neuron", "low": 1e-6, "high": 1e30}, "learning_rate": {"low": 1e-3, "high": 1e30}}
    given = tasks({"name": "exact"}, 3, space=space)
    wild = {name: np.full_like(v, 1e20) for name, v in given[1].proposal.values.items()}
    given[1] = Task(given[1].study, given[1].arm, given[1].plan, Proposal(1, wild, "exact"), None)
    found = evaluate_together(given, [None] * 3)
    for one, task in zip(found, given, strict=True):
        close(one, evaluate(task)) if task is not given[1] else None
    assert found[1].state == "failed"
    assert found[1].failure.startswith("diverged: the validation loss is not finite after 3 of 30 steps")
    assert found[1].cost.gradient_evaluations == evaluate(given[1]).cost.gradient_evaluations
    assert "exploded" not in found[0].report


def test_what_works_alongside_the_training_is_evaluated_alone():
    given = tasks({"name": "online"}, 2)
    for one, task in zip(evaluate_together(given, [None] * 2), given, strict=True):
        alone = evaluate(task)
        assert (one.validation_loss, one.curve.tobytes()) == (alone.validation_loss, alone.curve.tobytes())


MODULE = """
import torch

class Odd(torch.nn.Linear):
    def forward(self, x):
        {fault}
        return super().forward(x.flatten(1))

def net(shape, outputs):
    return Odd(64, outputs)
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """The problem of a module of the user's own with a line of its own in the forward pass."""

    def problem(fault):
        name = f"odd_{uuid.uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(MODULE.format(fault=fault))
        monkeypatch.syspath_prepend(str(tmp_path))
        return {**studies_small.study().canonical()["problem"], "model": f"{name}:net"}

    return problem


def test_a_module_that_cannot_be_stacked_is_trained_one_after_another(odd):
    given = tasks({"name": "random"}, 2, problem=odd("assert float(x.sum()) == float(x.sum())"))
    nosy = tasks({"name": "random"}, 2, problem=odd("assert float(self.weight.detach().sum()) < 1e9"))
    for each in (given, nosy):
        for one, task in zip(evaluate_together(each, [None] * 2), each, strict=True):
            close(one, evaluate(task))
    assert list(widths(nosy[0].study, nosy[0].arm, nosy[0].plan, None, 8)) == [1]


SCALED = """
import torch

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.last = torch.nn.Parameter(torch.tensor(0.5)), torch.nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        even, odd = x.clone(), x.clone()
        even[:, ::2] = 0
        odd[:, 1::2] = 0
        return self.scale * self.last(even) + self.last(odd)

def net(shape, outputs):
    return Scaled()
"""


def test_scalar_parameters_and_writes_in_place_are_stacked(tmp_path, monkeypatch):
    (tmp_path / "scaled_parts.py").write_text(SCALED)
    monkeypatch.syspath_prepend(str(tmp_path))
    problem = {**studies_small.study().canonical()["problem"], "model": "scaled_parts:net"}
    given = tasks({"name": "random"}, 3, problem=problem)
    expected = [evaluate(task) for task in given]
    monkeypatch.setattr(together, "evaluate", None)
    for one, other in zip(evaluate_together(given, [None] * 3), expected, strict=True):
        close(one, other)


def test_an_interruption_ends_every_kind_of_a_call(monkeypatch):
    given = [*tasks({"name": "random"}, 2), *tasks({"name": "random", "per": "global"}, 2)]
    looks = []

    def interrupted(*arguments):
        looks.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(together, "point", interrupted)
    found = evaluate_together([*given, *tasks({"name": "online"}, 1)], [None] * 5)
    assert all(isinstance(one, KeyboardInterrupt) for one in found)
    assert len(looks) == 1


def test_a_fault_is_every_trials_own(odd):
    given = tasks({"name": "random"}, 2, problem=odd("if x.shape[0] == 100: raise ValueError('a hundred rows')"))
    found = evaluate_together(given, [None] * 2)
    assert [one.state for one in found] == ["failed"] * 2
    assert all("a hundred rows" in one.failure for one in found)


def test_one_that_another_run_has_taken_over_leaves_the_stack(tmp_path, monkeypatch):
    given = tasks({"name": "random"}, 3, resources={"checkpoint": 0.0})
    desks = [None, None, None]
    lost = TakenOver("another run has it")

    class Lost(Desk):
        def save(self, fresh, stays):
            raise lost

    desks[1] = Lost(f"sqlite:///{tmp_path}/hpo.db", claim())
    monkeypatch.setattr(together, "OFTEN", 0.0)
    found = evaluate_together(given, desks)
    assert found[1] is lost
    close(found[0], evaluate(given[0]))
    close(found[2], evaluate(given[2]))


def claim(**given):
    fields = dict.fromkeys(Claim._fields)
    return Claim(**{**fields, "saved": False, "arm": "random/0", "number": 1, **given})


def test_an_interruption_saves_all_that_are_under_way_and_each_goes_on_alone(tmp_path, monkeypatch):
    given = tasks({"name": "exact"}, 3, resources={"checkpoint": 0.0})
    study = given[0].study
    monkeypatch.setattr(together, "OFTEN", 0.0)
    looks = []

    def interrupted(*arguments):
        looks.append(arguments)
        if len(looks) == 13:  # three at each point of the curve
            raise KeyboardInterrupt
        return point(*arguments)

    point = together.point
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        ledger.begin(study, {}, None)
        with ledger.attend(study.name, 3) as lease:
            terms = Terms("trainings", 10.0, 1.0, 3)
            claims = [ledger.claim(lease, task.arm.label, task.proposal, 0.0, terms) for task in given]
            desks = [Desk(ledger.url, one) for one in claims]
            monkeypatch.setattr(together, "point", interrupted)
            found = evaluate_together(given, desks)
            assert all(isinstance(one, KeyboardInterrupt) for one in found)
            for task, one in zip(given, claims, strict=True):
                saved = Desk(ledger.url, one._replace(saved=True))
                assert max(int(n.split("/")[2]) for n in saved.load() if n.startswith("kept/state/")) >= 9
                close(evaluate(task, saved), evaluate(task))
                saved.__exit__(None, None, None)
            for desk in desks:
                desk.__exit__(None, None, None)
    assert not interruption.asked()


def test_kinds_tell_apart_what_cannot_be_stacked():
    def of(task):
        made = recipe(task.study, task.arm, task.data_dir)
        some = next(iter(made.problem.weights.values()))
        hyper = place(task.plan.space, task.proposal.values, {}, some)
        return kind(task.study, task.arm, Replica(made, hyper))

    one, other = tasks({"name": "random"}, 2, seeds=2)
    assert of(one) == of(other)
    assert of(one) != of(tasks({"name": "random", "per": "global"}, 1)[0])
    assert of(one) != of(tasks({"name": "random"}, 1, training={"solver": "adam", "steps": 30, "batch_size": 50})[0])
    assert of(one) != of(tasks({"name": "random"}, 1, training={"solver": "sgd", "steps": 30, "batch_size": 40})[0])


def test_widths_are_measured_up_to_what_there_is():
    task = tasks({"name": "random"}, 1)[0]
    found = widths(task.study, task.arm, task.plan, None, 4)
    assert set(found) <= {1, 4}
    assert all(math.isfinite(seconds) and seconds > 0 for seconds in found.values())
    online = tasks({"name": "online"}, 1)[0]
    assert list(widths(online.study, online.arm, online.plan, None, 4)) == [1]
