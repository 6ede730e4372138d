"""A study of several solvers: an arm each, with a space, steps and minibatches of its own where it needs them."""

import pytest
from studies_small import study

from hpo import preparation, study_file
from hpo import study as loop
from hpo.evaluation import plan
from hpo.execution.serial import Serial
from hpo.failures import BadStudy
from hpo.progress import Quiet
from hpo.recipe import recipe
from hpo.reports import compared
from hpo.storage.ledger import Ledger


def several(*solvers, space=None, methods=("drmad", "random")):
    training = {"solver": list(solvers), "steps": 30, "batch_size": 50}
    return study(training=training, space=space or {"solver": "auto"}, methods=list(methods), seeds=[0])


def arms(content):
    return {arm.title: arm for arm in content.arms()}


def test_every_solver_searches_its_own_space():
    content = several("sgd", "adam", "adadelta", space={"solver": "auto", "momentum": {"high": 0.5}})
    spaces = {title: plan(content, arm, None).space for title, arm in arms(content).items()}
    assert [g.name for g in spaces["random+sgd"].groups] == ["momentum", "l2", "learning_rate"]
    assert spaces["random+sgd"].groups[0].high == 0.5
    assert [g.name for g in spaces["random+adam"].groups] == ["l2", "learning_rate"]
    rates = {title: space.groups[-1].default for title, space in spaces.items()}
    assert (rates["random+adam"], rates["random+adadelta"]) == (1e-3, 1.0)


def test_one_solver_twice_is_told_apart_by_its_label():
    content = several("sgd", {"name": "sgd", "label": "heavy", "momentum": 0.9}, methods=["random"])
    assert [arm.label for arm in content.arms()] == ["random+sgd/0", "random+heavy/0"]
    assert recipe(content, content.arms()[1], None).fixed == {"momentum": 0.9}


def test_options_narrow_what_a_solver_searches():
    content = several({"name": "hsic", "scales": [1, 4]}, {"name": "hsic", "label": "own", "readout": "assigned"})
    one, two = (plan(content, arms(content)[f"random+{name}"], None).space for name in ("hsic", "own"))
    assert next(g for g in one.groups if g.name == "sigma").high == 12.5
    assert "head_rate" in {g.name for g in one.groups} - {g.name for g in two.groups}


def test_all_start_from_the_same_weights_and_data():
    content = several("sgd", "adam")
    one, two = (recipe(content, arms(content)[f"random+{name}"], None) for name in ("sgd", "adam"))
    assert one.problem is two.problem
    assert one.training.batches is two.training.batches


def test_steps_and_minibatches_of_its_own_are_charged_in_the_studys():
    content = several("sgd", {"name": "adam", "steps": 12, "batch_size": 25})
    plans = {title: plan(content, arm, None) for title, arm in arms(content).items()}
    assert plans["random+sgd"].evaluations == 30
    assert plans["random+adam"].evaluations == 6
    made = recipe(content, arms(content)["random+adam"], None)
    assert (made.training.steps, len(made.training.batches(0).targets), made.share) == (12, 25, 0.5)


def test_the_study_runs_and_each_arm_is_told_apart(tmp_path):
    content = several("sgd", {"name": "adam", "learning_rate": 0.01}, "adagrad", methods=["drmad", "random"])
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        with preparation.prepared(content, None) as ready:
            loop.run(ready, ledger, Quiet(), {})
        found = {entry["label"]: entry for entry in compared.compare(ledger, "small")["arms"]}
    assert set(found) == {f"{m}+{s}/0" for m in ("drmad", "random") for s in ("sgd", "adam", "adagrad")}
    for label, entry in found.items():
        assert entry["trials"] == 5, label
        assert entry["test_loss"] < 2.2, label
    assert {entry["solver"] for entry in found.values()} == {"sgd", "adam", "adagrad"}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"solver": "best"}, r"space\.solver: input should be 'auto', not 'best'"),
        ({"l2": "auto"}, r"space: l2: auto: only `solver: auto` is a word, every other entry has bounds"),
        ({"solver": {}}, r"space: solver: bounds: only `solver: auto` is a word"),
    ],
)
def test_the_one_word_of_a_space(space, message):
    text = study_file.text(study()).split("space:")[0]
    with pytest.raises(BadStudy, match=message):
        study_file.parse(f"{text}space: {space}\nmethods: [random]\nbudget: {{trainings: 2}}\n")


def test_the_word_is_written_back():
    content = several("sgd")
    assert study_file.parse(study_file.text(content)) == content


def test_own_steps_must_be_a_number_of_steps():
    with pytest.raises(
        BadStudy, match=r"training\.solver\.0\.steps: input should be greater than or equal to 1, not 0"
    ):
        study_file.parse(study_file.text(several("sgd")).replace("steps: null", "steps: 0"))


@pytest.mark.parametrize(
    ("solvers", "methods", "message"),
    [
        (
            [{"name": "sgd", "label": "b+c"}, {"name": "sgd", "label": "c"}],
            [{"name": "tpe", "label": "a"}, {"name": "random", "label": "a+b"}],
            r"two arms would be called 'a\+b\+c': give them other labels",
        ),
    ],
)
def test_arms_of_one_name_are_refused(solvers, methods, message):
    with pytest.raises(ValueError, match=message):
        several(*solvers, methods=methods)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ({"name": "hsic", "label": "own", "scales": [1, 2, 3]}, r"training\.own: the 8 units of .* do not fall into 3"),
        ({"name": "hsic", "readout": "assigned", "head_rate": 0.1}, r"training\.hsic: head_rate .* nothing to do"),
        ({"name": "hsic", "batch_size": 1}, r"training\.hsic: a kernel of dependence needs minibatches of 2 rows"),
        (
            {"name": "dladmm", "batch_size": 50},
            r"training\.dladmm\.batch_size: every step takes all rows: leave it out",
        ),
        ({"name": "curveball", "lable": "x"}, r"training\.curveball\.lable: .*did you mean 'label'"),
        ({"name": "hsic", "readout": "best"}, r"training\.hsic\.readout: input should be 'head' or 'assigned'"),
    ],
)
@pytest.mark.parametrize("method", ["drmad", "random"])
def test_what_a_solver_refuses_is_known_before_anything_runs(solver, message, method):
    content = several(solver, methods=[method])
    with pytest.raises(BadStudy, match=message):
        plan(content, content.arms()[0], None)


def test_every_choice_of_a_solver_is_probed_for_itself():
    content = several("sgd", {"name": "sgd", "label": "wide", "batch_size": 100}, methods=["random"])
    plans = {arm.label: plan(content, arm, None) for arm in content.arms()}
    probes = preparation.probes(content, plans, Serial(content.resources), None)
    assert probes["random+sgd/0"] is not probes["random+wide/0"]
