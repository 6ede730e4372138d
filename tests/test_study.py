"""The loop: exact budgets, the same trials however they are run, failures closed and told like everything else."""

import os
import signal
from itertools import pairwise

import numpy as np
import pytest
import studies_small

from hpo import preparation, scoring
from hpo import study as loop
from hpo.execution import worker
from hpo.failures import BadData, BadStudy, StudyFailed
from hpo.progress import Quiet
from hpo.reports import figures
from hpo.reports.gathering import gather
from hpo.space import Group, Space
from hpo.storage.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as opened:
        yield opened


def run(study, ledger, watcher=None):
    with preparation.prepared(study, None) as ready:
        loop.run(ready, ledger, watcher or Quiet(), {"hpo": "test"})
    return studies_small.essence(ledger, study.name)


def test_every_arm_spends_exactly_its_trainings(ledger):
    found = run(studies_small.study(), ledger)
    for arm in ledger.arms("small"):
        assert [n for label, n in sorted(found) if label == arm.label] == [0, 1, 2, 3, 4]
        assert arm.state == "complete"
        assert arm.space, "the resolved space is stored"
        assert arm.settings, "the settings in force are stored"
    assert ledger.study("small").runs == 0


def test_trial_0_is_the_same_point_for_all_methods(ledger):
    found = run(studies_small.study(budget={"trainings": 1}), ledger)
    assert len({trial[2] for (label, _), trial in found.items() if label.endswith("/0")}) == 1
    assert len({trial[2] for (label, _), trial in found.items() if label.endswith("/1")}) == 1
    assert found["random-global/0", 0][2] != found["random-global/1", 0][2]


@pytest.mark.parametrize(("unit", "amount"), [("gradient_evaluations", 400.0), ("seconds", 0.2)])
def test_other_budgets(ledger, unit, amount):
    study = studies_small.study(budget={unit: amount}, seeds=[0])
    run(study, ledger)
    for arm in study.arms():
        spent = ledger.standing("small")[arm.label].cost
        if unit == "seconds":
            assert spent.seconds >= amount
        else:
            each = spent.gradient_evaluations / spent.trainings
            assert amount - each < spent.gradient_evaluations <= amount
    if unit == "gradient_evaluations":
        assert (
            ledger.standing("small")["drmad/0"].cost.trainings
            < ledger.standing("small")["random-global/0"].cost.trainings
        )


def test_a_rate_that_is_not_searched_is_the_solvers_or_the_studys(ledger):
    space, methods = {"l2": {"per": "neuron"}}, [{"name": "drmad"}]
    silent = run(studies_small.study(name="silent", space=space, methods=methods, seeds=[0]), ledger)
    training = {"solver": {"name": "sgd", "learning_rate": 0.05}, "steps": 30, "batch_size": 50}
    said = run(studies_small.study(name="said", space=space, methods=methods, seeds=[0], training=training), ledger)
    assert list(silent.values()) == list(said.values())
    assert ledger.arms("said")[0].settings["fixed"] == {"learning_rate": 0.05}
    training["solver"]["momentum"] = 0.5
    other = run(studies_small.study(name="other", space=space, methods=methods, seeds=[0], training=training), ledger)
    assert list(other.values()) != list(said.values())


def test_arms_draw_their_own_random_trials(ledger):
    methods = [{"name": "random", "per": "global"}, {"name": "tpe", "per": "global"}]
    found = run(studies_small.study(methods=methods, budget={"trainings": 3}), ledger)
    points = [found[label, 1][0]["l2"] for label in ("random-global/0", "tpe-global/0", "random-global/1")]
    assert len(set(points)) == 3


def test_hypergradient_work_is_charged(ledger):
    run(studies_small.study(budget={"trainings": 1}, seeds=[0]), ledger)
    # 30 steps; 2 segments: a graph and 4 products of 4/3 on all 100 rows (2 batches); 200 validation rows (4 batches)
    assert ledger.standing("small")["drmad/0"].cost.gradient_evaluations == pytest.approx(
        30 + 2 * (1 + 4 * 4 / 3) * 2 + 4
    )
    assert ledger.standing("small")["random-global/0"].cost.gradient_evaluations == 30


def test_agreement_with_the_exact_hypergradient_is_charged_kept_and_drawn(ledger):
    ways = [{"name": "drmad", "krylov": 4, "knots": 3}, {"name": "exact"}]
    beside = {**ways[0], "agreement": True, "label": "beside"}
    run(studies_small.study(methods=[*ways, beside], budget={"trainings": 2}, seeds=[0]), ledger)
    spent = {name: arm.cost.gradient_evaluations for name, arm in ledger.standing("small").items()}
    trainings = 2 * 30
    assert spent["beside/0"] == pytest.approx(spent["drmad/0"] + spent["exact/0"] - trainings)
    alone, told = ([t.outcome for t in ledger.trials("small", label)] for label in ("drmad/0", "beside/0"))
    assert [o.validation_loss for o in told] == [o.validation_loss for o in alone]
    assert all(np.array_equal(o.hypergradient["l2"], a.hypergradient["l2"]) for o, a in zip(told, alone, strict=True))
    names = {"cosine of l2", "cosine of learning_rate"}
    assert all(names <= o.report.keys() for o in told) and not any(names & o.report.keys() for o in alone)
    exact = next(iter(ledger.trials("small", "exact/0"))).outcome.hypergradient["l2"]  # of the same first point
    mine = alone[0].hypergradient["l2"]
    cosine = mine @ exact / np.linalg.norm(mine) / np.linalg.norm(exact)  # all strengths are the same there
    assert told[0].report["cosine of l2"] == pytest.approx(cosine)
    assert told[0].report["cosine of learning_rate"] != told[0].report["cosine of l2"]
    contents = gather(ledger, ["small"], None)
    drawn = figures.draw(contents)
    assert [name for name in drawn if name.endswith("-agreement")] == ["descent-2-agreement"]
    said = {p["title"]: (p["agreement_asked"], p["agreement_possible"]) for p in contents["panels"]["panels"]}
    assert said == {"drmad": (False, True), "exact": (False, False), "beside": (True, True)}


def test_values_that_act_in_several_places_have_one_cosine(ledger):
    """Of a single value it is 1 or −1, whatever the weights say that it acts on."""
    single = {
        name: {**studies_small.study().canonical()["space"][name], "per": "global"} for name in ("l2", "learning_rate")
    }
    ways = [{"name": "truncated", "steps": 3, "agreement": True}, {"name": "exact", "label": "e"}]
    run(studies_small.study(methods=ways, space=single, budget={"trainings": 1}, seeds=[0]), ledger)
    found, exact = (next(iter(ledger.trials("small", label))).outcome for label in ("truncated/0", "e/0"))
    for name in single:
        sign = np.sign(found.hypergradient[name] * exact.hypergradient[name]).item()
        assert found.report[f"cosine of {name}"] == pytest.approx(sign)


def test_a_cosine_is_along_the_coordinates_and_left_out_without_a_direction():
    groups = (("l2", True, 2), ("m", False, 2), ("d", False, 1))
    space = Space(tuple(Group(name, "neuron", 1e-6, 1.0, 1e-3, log, size, ()) for name, log, size in groups))
    values = {"l2": np.array([1.0, 1e-3]), "m": np.array([0.5, 0.5]), "d": np.array([0.5])}
    one = {"l2": np.array([1.0, 1.0]), "m": np.array([3.0, 4.0]), "d": np.array([0.0])}
    other = {"l2": np.array([1.0, -1.0]), "m": np.array([-3.0, -4.0]), "d": np.array([1.0])}
    told = scoring.agreement(space, values, one, other)
    assert told == {"cosine of l2": pytest.approx((1 - 1e-6) / (1 + 1e-6)), "cosine of m": pytest.approx(-1.0)}
    broken = {**other, "m": np.array([np.inf, 1.0])}
    assert "cosine of m" not in scoring.agreement(space, values, one, broken)


ONLINE = {"name": "online", "every": 5, "terms": 2}


def test_an_online_arm_hands_its_values_on_within_the_bounds_and_holds_what_is_fixed(ledger):
    training = {"solver": {"name": "sgd", "momentum": 0.5}, "steps": 30, "batch_size": 50}
    study = studies_small.study(methods=[ONLINE], seeds=[0], training=training)
    run(study, ledger)
    arm = ledger.arms("small")[0]
    assert arm.settings["fixed"] == {"momentum": 0.5}
    trials = ledger.trials("small", arm.label)
    bounds = {group["name"]: (group["size"], group["low"], group["high"]) for group in arm.space}
    for last, trial in pairwise(trials):
        assert last.outcome is not None and last.outcome.ends is not None and last.outcome.hypergradient is not None
        for name, (size, low, high) in bounds.items():
            ends = last.outcome.ends[name]
            assert ends.shape == last.outcome.hypergradient[name].shape == (size,)
            assert ((low <= ends) & (ends <= high)).all()
            assert not np.array_equal(ends, last.proposal.values[name])
            np.testing.assert_array_equal(trial.proposal.values[name], ends)
    spent = ledger.standing("small")[arm.label].cost.gradient_evaluations
    assert spent == 5 * (30 + 6 * (4 * 2 + 1)), "six moves: two terms, and as many validation rows as a batch has"


def test_an_interrupted_online_arm_goes_on_as_if_it_had_not_been(tmp_path, ledger):
    study = studies_small.study(methods=[ONLINE], seeds=[0])
    with pytest.raises(KeyboardInterrupt):
        run(study, ledger, Interrupting(3))
    whole = run(study, ledger)
    with Ledger.open(f"sqlite:///{tmp_path}/other.db") as other:
        assert run(study, other) == whole


def test_an_online_training_that_diverges_pays_for_the_moves_it_made_and_lowers_the_rates(ledger):
    wild = {"low": 1e-6, "high": 1e6, "default": 1e3}  # (1 − rate·l2)³⁰ leaves float32 behind
    space = {"l2": wild, "learning_rate": {"low": 1e-4, "high": 1.0, "default": 0.1}}
    study = studies_small.study(space=space, methods=[ONLINE], seeds=[0], budget={"trainings": 12})
    run(study, ledger)
    first, *rest = ledger.trials("small", "online/0")
    assert first.outcome is not None
    assert first.outcome.state == "failed"
    assert first.outcome.ends is None
    steps = first.outcome.curve[-1, 0]
    assert first.outcome.cost.gradient_evaluations == pytest.approx(steps * (1 + (4 * 2 + 1) / 5))
    assert rest[0].proposal.values["learning_rate"] == pytest.approx(0.1 / np.e)
    assert any(trial.outcome and trial.outcome.usable for trial in rest)


def test_processes_and_serial_give_the_same_trials(tmp_path, ledger):
    serial = run(studies_small.study(), ledger)
    with Ledger.open(f"sqlite:///{tmp_path}/other.db") as other:
        parallel = run(studies_small.study(resources={"workers": 2}), other)
    assert parallel == serial


def test_a_larger_budget_extends_and_gives_what_one_run_gives(tmp_path, ledger):
    run(studies_small.study(budget={"trainings": 2}), ledger)
    extended = run(studies_small.study(), ledger)
    with Ledger.open(f"sqlite:///{tmp_path}/other.db") as other:
        assert run(studies_small.study(), other) == extended


def test_running_a_finished_study_again_changes_nothing(ledger):
    first = run(studies_small.study(), ledger)
    assert run(studies_small.study(), ledger) == first


class Interrupting(Quiet):
    """Ctrl-C after so many trials."""

    def __init__(self, after):
        self.after = after

    def closed(self, arm, trial):
        self.after -= 1
        if not self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_keeps_what_is_finished_and_the_rest_follows(tmp_path, ledger, workers):
    study = studies_small.study(resources={"workers": workers})
    with pytest.raises(KeyboardInterrupt):
        run(study, ledger, Interrupting(7))
    states = [trial[1] for trial in studies_small.essence(ledger, "small").values()]
    assert (states.count("complete"), set(states) - {"complete"}) == (7, {"running"} if workers == 2 else set())
    assert ledger.study("small").runs == 0
    whole = run(study, ledger)
    with Ledger.open(f"sqlite:///{tmp_path}/other.db") as other:
        assert run(studies_small.study(), other) == whole


def test_a_diverging_training_is_a_failed_trial_and_the_search_goes_on(ledger):
    wild = {"low": 1e-6, "high": 1e6, "default": 1e3}  # (1 − rate·l2)³⁰ leaves float32 behind
    study = studies_small.study(
        space={"l2": wild, "learning_rate": {"low": 1e-4, "high": 1.0, "default": 0.1}},
        methods=[{"name": "drmad"}, {"name": "random"}, {"name": "tpe"}],
        budget={"trainings": 12},
        seeds=[0],
    )
    run(study, ledger)
    for arm in study.arms():
        trials = ledger.trials("small", arm.label)
        assert len(trials) == 12
        first = trials[0].outcome
        assert first is not None
        assert first.state == "failed"
        assert "diverged: the validation loss is not finite after" in (first.failure or "")
        assert any(t.outcome and t.outcome.usable for t in trials)
        assert first.cost.gradient_evaluations <= 30


def test_an_arm_without_a_usable_trial_fails_the_study_and_keeps_the_others(ledger):
    space = {"l2": {"per": "layer", "low": 1e3, "high": 1e6}, "learning_rate": {"low": 0.1, "high": 1.0}}
    study = studies_small.study(space=space, seeds=[0])
    with pytest.raises(StudyFailed, match=r"no trial of drmad/0, .*hpo show small"):
        run(study, ledger)
    assert {arm.state for arm in ledger.arms("small")} == {"failed"}
    assert len(studies_small.essence(ledger, "small")) == 15


def test_a_worker_that_dies_twice_is_a_failed_trial(ledger, monkeypatch):
    monkeypatch.setattr(worker, "evaluate", dies_on_trial_1)
    study = studies_small.study(resources={"workers": 2}, methods=[{"name": "random"}], budget={"trainings": 3})
    run(study, ledger)
    for arm in study.arms():
        outcomes = [t.outcome for t in ledger.trials("small", arm.label)]
        assert [o and o.state for o in outcomes] == ["complete", "failed", "complete"]
        assert outcomes[1] is not None
        assert "the worker process died 2 times on this trial" in (outcomes[1].failure or "")
        assert outcomes[1].cost.gradient_evaluations == 30, "charged in full"


real_evaluate = worker.evaluate


def dies_on_trial_1(task, desk):
    if task.proposal.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real_evaluate(task, desk)


def test_a_fault_of_our_own_is_not_taken_for_a_failed_trial(ledger, monkeypatch):
    def faulty(task, desk):
        raise ZeroDivisionError("not the training's fault")

    monkeypatch.setattr(worker, "evaluate", faulty)
    with pytest.raises(ZeroDivisionError):
        run(studies_small.study(), ledger)
    assert [trial[1] for trial in studies_small.essence(ledger, "small").values()] == ["running"]
    assert ledger.study("small").runs == 0


def test_an_error_inside_a_training_is_recorded_with_its_reason(ledger, monkeypatch, tmp_path):
    (tmp_path / "fragile.py").write_text(
        "import torch\n\n\nclass Fragile(torch.nn.Linear):\n    def forward(self, x):\n"
        "        if x.shape[0] == 50 and x.abs().sum() > 0 and torch.is_grad_enabled():\n"
        "            raise RuntimeError('the lamp went out')\n        return super().forward(x.flatten(1))\n\n\n"
        "def net(shape, outputs):\n    return Fragile(64, outputs)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    problem = {**studies_small.study().canonical()["problem"], "model": "fragile:net"}
    with pytest.raises(StudyFailed):
        run(studies_small.study(problem=problem, seeds=[0], budget={"trainings": 2}), ledger)
    outcome = ledger.trials("small", "random-global/0")[0].outcome
    assert outcome is not None
    assert "RuntimeError: the lamp went out" in (outcome.failure or "")
    assert outcome.cost.gradient_evaluations == 30, "charged in full"


def test_best_weights_are_kept_for_every_arm(ledger):
    run(studies_small.study(), ledger)
    for arm in ledger.arms("small"):
        trials = ledger.trials("small", arm.label)
        best = min(trials, key=lambda t: t.outcome.validation_loss if t.outcome else np.inf)
        kept = {t.number: ledger.weights("small", arm.label, t.number) for t in trials}
        assert kept[best.number] is not None
        assert sum(w is not None for w in kept.values()) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"space": {"l3": {}}}, BadStudy, r"space\.l3: unknown hyperparameter"),
        ({"methods": [{"name": "drmad", "knots": "two"}]}, BadStudy, r"methods\.drmad\.knots: .*integer"),
        ({"methods": [{"name": "drmad", "knots": 1}]}, BadStudy, r"methods\.drmad: knots 1 must be 2 or more"),
        ({"methods": [{"name": "drmad", "knot": 3}]}, BadStudy, r"methods\.drmad\.knot: .*did you mean 'knots'"),
        ({"methods": [{"name": "drmad", "rate": -1}]}, BadStudy, r"methods\.drmad\.rate: -1"),
        ({"methods": [{"name": "tpe", "startups": 1}]}, BadStudy, r"methods\.tpe\.startups: .*did you mean 'startup'"),
        ({"training": {"solver": {"name": "sgd", "nesterov": True}, "steps": 9, "batch_size": 9}}, BadStudy,
         r"training\.sgd\.nesterov: unknown option"),
        ({"training": {"solver": {"name": "sgd", "learning_rate": 0.1}, "steps": 9, "batch_size": 9}}, BadStudy,
         r"training\.sgd\.learning_rate: learning_rate is searched \(space\.learning_rate\) and fixed"),
        ({"training": {"solver": {"name": "sgd", "momentum": 2}, "steps": 9, "batch_size": 9}}, BadStudy,
         r"training\.sgd\.momentum: 2 must be a number between 0 and 0\.999999"),
        ({"training": {"solver": "adam", "steps": 9, "batch_size": 9}, "space": {"beta2": {}}}, BadStudy,
         r"methods\.drmad: drmad cannot differentiate beta2: use exact"),
        ({"space": {"learning_rate": {"per": "step"}}, "methods": [{"name": "drmad", "steps": 31}]}, BadStudy,
         r"methods\.drmad: a pass of 31 steps does not see all 30 values of learning_rate"),
        ({"space": {"learning_rate": {"per": "step"}}, "methods": [{"name": "online"}]}, BadStudy,
         r"methods\.online: online makes schedules itself, it cannot move learning_rate\[t\]"),
        ({"methods": [{"name": "online", "every": 31}]}, BadStudy, r"online: every 31 is more than the 30 steps"),
        ({"methods": [{"name": "online", "term": 1}]}, BadStudy, r"methods\.online\.term: .*did you mean 'terms'"),
        ({"budget": {"gradient_evaluations": 5}}, BadStudy, r"gradient_evaluations 5 is less than one trial of drmad"),
        ({"problem": {"data": "digits", "split": {"train": 5000, "validation": 10}}}, BadData, "1797"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_before_anything_is_written(ledger, changes, error, message):
    with pytest.raises(error, match=message):
        run(studies_small.study(**changes), ledger)
    assert ledger.studies() == []


def test_a_gpu_that_torch_cannot_use_is_refused(ledger, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadStudy, match=r"resources\.gpus 1: no usable CUDA device here; set gpus: 0"):
        run(studies_small.study(resources={"gpus": 1.0}, execution="serial"), ledger)


def test_a_refusal_travels_out_of_a_worker(ledger):
    with pytest.raises(BadStudy, match=r"space\.l3: unknown hyperparameter"):
        run(studies_small.study(space={"l3": {}}, resources={"workers": 2}), ledger)
    assert ledger.studies() == []


def test_a_changed_study_of_the_same_name_is_refused_and_kept(ledger):
    before = run(studies_small.study(budget={"trainings": 1}), ledger)
    changed = studies_small.study(training={"solver": "sgd", "steps": 31, "batch_size": 50})
    with pytest.raises(BadStudy, match=r"training\.steps: was 30, is 31"):
        run(changed, ledger)
    assert studies_small.essence(ledger, "small") == before


def test_a_strategy_that_never_proposes_is_found_out(ledger, monkeypatch):
    from hpo.strategies.descent import Descent

    monkeypatch.setattr(Descent, "ask", lambda self, number: None)
    with pytest.raises(RuntimeError, match=r"drmad/0 propose nothing"):
        run(studies_small.study(methods=[{"name": "drmad"}], seeds=[0]), ledger)


def test_plans_say_what_a_trial_will_cost():
    from hpo.execution.serial import Serial

    study = studies_small.study(seeds=[0])
    plans = preparation.plans(study, Serial(study.resources), None)
    drmad = plans["drmad/0"]
    assert drmad.space.size == 64 + 8 + 2
    assert drmad.evaluations == pytest.approx(30 + 2 * (1 + 4 * 4 / 3) * 2 + 4)
    assert drmad.rows == (100, 200, 1497)
    assert drmad.parameters == 64 * 8 + 8 + 8 * 10 + 10
