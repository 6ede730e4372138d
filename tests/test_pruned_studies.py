"""Studies whose arms have a pruner: what they spend, what they try, and what is told of their trials."""

import io
import math
import random
import time
from dataclasses import replace

import numpy as np
import optuna
import pytest
import studies_small
import test_kill
import yaml
from optuna.trial import TrialState
from rich.console import Console

from hpo import preparation, progress
from hpo import study as loop
from hpo.arm import ArmRun, strategy_for
from hpo.evaluation import evaluate
from hpo.failures import BadStudy
from hpo.interop import from_optuna, to_optuna
from hpo.pruning.pruners import pruner_for
from hpo.reports import compared, listing, terminal
from hpo.storage.ledger import Ledger
from hpo.storage.records import described
from hpo.task import Task
from hpo.together import evaluate_together
from hpo.trial import Outcome, Proposal, Trial

STEPS, POINTS = 30, 10
METHODS = [
    {"name": "random"},
    {"name": "random", "pruner": {"name": "asha", "reduction": 3}},
    {"name": "tpe", "startup": 4, "pruner": "hyperband"},
    {"name": "skopt-et", "startup": 4, "pruner": {"name": "median", "startup": 2}},
]
WIDE = {
    "l2": {"per": "global", "low": 1e-6, "high": 1.0, "default": 1e-3},
    "learning_rate": {"per": "global", "low": 1e-3, "high": 1.0, "default": 0.1},
}
EVALUATIONS = 600.0


def small(**changes):
    """One training after another: those that are stacked are judged among themselves."""
    content = {"methods": METHODS, "space": WIDE, "seeds": [0], "budget": {"gradient_evaluations": EVALUATIONS}}
    return studies_small.study(**{**content, "execution": "serial", **changes})


def run(study, ledger, watcher=None):
    with preparation.prepared(study, None) as ready:
        loop.run(ready, ledger, watcher or progress.Quiet(), {})
    return studies_small.essence(ledger, study.name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The ledger of a finished study, and what a pipe was shown of it."""
    text = io.StringIO()
    folder = tmp_path_factory.mktemp("pruned")
    with Ledger.open(f"sqlite:///{folder}/hpo.db") as ledger:
        run(small(), ledger, progress.Lines(Console(file=text, width=200)))
        yield ledger, text.getvalue()


@pytest.fixture(scope="module")
def trials(finished):
    return {arm.label: finished[0].trials("small", arm.label) for arm in finished[0].arms("small")}


def test_under_one_budget_a_pruner_tries_more(finished, trials):
    standing = finished[0].standing("small")
    assert len(trials["random/0"]) == EVALUATIONS / STEPS == 20
    for label, told in trials.items():
        spent = standing[label].cost.gradient_evaluations
        assert EVALUATIONS - STEPS < spent <= EVALUATIONS, "as long as a whole training fits"
        assert spent == sum(t.outcome.cost.gradient_evaluations for t in told)
        assert standing[label].cost.trainings == len(told), "one that is stopped is a training, too"
        if label != "random/0":
            assert len(told) > 20
            assert {"pruned", "complete"} == {t.state for t in told}
    assert len(trials["random-asha/0"]) > 40


def test_a_pruned_trial_is_charged_what_it_used(trials):
    for told in trials.values():
        for outcome in (t.outcome for t in told if t.state == "pruned"):
            step = outcome.curve[-1, 0]
            assert step in range(3, STEPS, 3) and len(outcome.curve) == step / 3
            assert outcome.cost.gradient_evaluations == step
            assert outcome.validation_loss == outcome.curve[-1, 2]
            assert math.isnan(outcome.test_loss) and outcome.test_accuracy is None


def test_verdicts_are_those_of_the_curves_in_the_ledger(trials):
    for arm in small().arms()[1:]:
        pruner, rivals = pruner_for(arm, POINTS), {}
        for trial in trials[arm.label]:
            curve = tuple(trial.outcome.curve[:, 2].tolist())
            verdicts = [pruner.stops(trial.number, curve[:k], rivals) for k in range(1, len(curve) + 1)]
            assert verdicts == [False] * (len(curve) - 1) + [trial.state == "pruned"]
            rivals[trial.number] = curve


def test_reports_name_them_and_never_choose_them(finished, trials):
    ledger, lines = finished
    found, shown = compared.compare(ledger, "small"), listing.show(ledger, "small")
    for arm, entry in zip(found["arms"], shown["arms"], strict=True):
        told = trials[arm["label"]]
        best = min((t for t in told if t.state == "complete"), key=lambda t: t.outcome.validation_loss)
        assert (arm["best_trial"], arm["trials"]) == (best.number, len(told))
        assert [t["state"] for t in entry["trials"]] == [t.state for t in told]
        assert "pruner" in entry["settings"] or arm["label"] == "random/0"
    first = next(t for t in trials["random-asha/0"] if t.state == "pruned")
    said = f"pruned after {first.outcome.curve[-1, 0]:.0f} of 30 steps"
    assert f"random-asha/0    trial {first.number:>3}  {said}  best " in lines
    console = Console(file=io.StringIO(), width=120)
    terminal.show(console, shown)
    assert said in console.file.getvalue()


def test_optuna_is_given_them_as_pruned_and_gives_them_back(finished, trials, tmp_path):
    ledger, _ = finished
    url = f"sqlite:///{tmp_path}/optuna.db"
    to_optuna.write(ledger, "small", url)
    ours = trials["random-asha/0"]
    theirs = optuna.load_study(study_name="small/random-asha/0", storage=url).trials
    states = {"pruned": TrialState.PRUNED, "complete": TrialState.COMPLETE}
    assert [t.state for t in theirs] == [states[t.state] for t in ours]
    assert [t.value for t in theirs] == [t.outcome.validation_loss for t in ours]
    assert [t.intermediate_values for t in theirs] == [
        {int(step): loss for step, _, loss in t.outcome.curve} for t in ours
    ]
    with preparation.prepared(small(), None) as ready:
        space = described(ready.plans["random-asha/0"].space)
    past = from_optuna.read(url, "small/random-asha/0", space)
    assert [t.state for t in past.trials] == [t.state for t in ours] and past.skipped == 0
    for back, there in zip(past.trials, ours, strict=True):
        assert back.outcome.validation_loss == there.outcome.validation_loss
        assert back.outcome.cost.gradient_evaluations == 0
        if there.state == "pruned":
            assert np.array_equal(back.outcome.curve[:, ::2], there.outcome.curve[:, ::2])


def test_rivals_are_the_arms_own_curves_as_far_as_they_are_finite():
    plain, asha = small().arms()[:2]
    with preparation.prepared(small(), None) as ready:
        runs = [
            ArmRun(arm, plan := ready.plans[arm.label], strategy_for(arm, plan), small().budget)
            for arm in (plain, asha)
        ]
    values = runs[0].plan.space.defaults()
    losses = [[1.0, 0.5], [1.0, np.inf, 2.0], [np.nan], []]
    for number, curve in enumerate(losses):
        told = np.array([(3.0 * k, 0.0, loss) for k, loss in enumerate(curve, 1)]).reshape(-1, 3)
        outcome = Outcome("failed" if number else "pruned", 0.5, math.nan, curve=told)
        for run in runs:
            run.take(Trial(Proposal(number, values), outcome))
            run.take(Trial(Proposal(10 + number, values), outcome, origin="elsewhere"))
    assert [run.rivals for run in runs] == [{}, {0: (1.0, 0.5), 1: (1.0,), 2: ()}]


def test_trainings_that_are_stacked_are_judged_among_themselves():
    with preparation.prepared(study := small(methods=METHODS[1:2]), None) as ready:
        (arm,), (plan,) = study.arms(), ready.plans.values()
    strategy = strategy_for(arm, plan)
    tasks = [Task(study, arm, plan, strategy.ask(number), None) for number in range(12)]
    found = evaluate_together(tasks, [None] * 12)
    curves = [outcome.curve[:, 2].tolist() for outcome in found]
    going = range(12)
    for rung in (1, 3, 9):
        going = sorted(going, key=lambda n: curves[n][rung - 1])[: max(len(going) // 3, 1)]
        assert sorted(going) == [n for n in range(12) if len(curves[n]) > rung]
    assert [outcome.state for outcome in found].count("complete") == 1
    alone = [evaluate(replace(task, rivals={99: (0.0,)})) for task in tasks[:2]]
    assert [outcome.state for outcome in alone] == ["pruned"] * 2, "one that is judged alone meets those it is told of"


def test_another_budget_or_pruner(finished, tmp_path):
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        run(small(budget={"gradient_evaluations": 200.0}), ledger)
        assert run(small(), ledger) == studies_small.essence(finished[0], "small")
        other = [*METHODS[:1], {"name": "random", "pruner": {"name": "asha", "reduction": 2}}, *METHODS[2:]]
        with pytest.raises(BadStudy, match=r"methods\.random-asha\.pruner\.reduction: was 3, is 2; give another name"):
            run(small(methods=other), ledger)
        with pytest.raises(BadStudy, match=r"methods\.random-asha\.pruner\.first: 10 must be below 10"):
            run(small(methods=[{"name": "random", "pruner": {"name": "asha", "first": 10}}]), ledger)


def test_kills_change_nothing(tmp_path):
    """Saved at every stop, so that a training goes on with the verdicts it has had."""
    training = {"solver": "sgd", "steps": 300, "batch_size": 50}
    study = small(methods=METHODS[1:], training=training, resources={"checkpoint": 0.0}, budget={"trainings": 12})
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study.canonical()))
    path, storage = tmp_path / "hpo.db", f"sqlite:///{tmp_path}/hpo.db"
    command, done = ["run", str(tmp_path / "small.yaml")], 0
    generator = random.Random(0)
    for _ in range(3):
        process = test_kill.started(command, storage)
        while process.poll() is None and test_kill.closed(path) < done + 8:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.05))
        process.kill()
        process.communicate()
        done, command = test_kill.closed(path), ["resume", "small"]
    assert 0 < done < 36, "killed in the middle"
    last = test_kill.started(command, storage)
    _, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    with Ledger.open(storage, create=False) as ledger:
        found = studies_small.essence(ledger, "small")
    assert {trial[1] for trial in found.values()} == {"pruned", "complete"}
    assert found == test_kill.unbroken(tmp_path, study)
