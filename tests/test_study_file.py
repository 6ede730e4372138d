"""The study file: what it may say, and how every fault is named."""

import pytest
import studies_small

from hpo import spec, study_file
from hpo.failures import BadStudy

GOOD = """
name: small
problem:
  data: digits
  split: {train: 300, validation: 0.5}
  model: {mlp: [50, 50], activation: tanh}
training: {solver: sgd, steps: 60, batch_size: 100}
space:
  l2: {per: neuron, low: 1e-6, high: 1.0, default: 1e-3}
  learning_rate:
methods:
  - drmad
  - {name: tpe, per: global, startup: 5}
budget: {trainings: 3}
seeds: 2
"""


def changed(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


def test_reads_numbers_names_and_short_forms():
    study = study_file.parse(GOOD)
    assert study.space["l2"].low == 1e-6
    assert study.space["learning_rate"].per == "global"
    assert study.methods[1].options == {"startup": 5}
    assert [arm.label for arm in study.arms()] == ["drmad/0", "tpe-global/0", "drmad/1", "tpe-global/1"]


def test_several_solvers_make_several_arms():
    study = study_file.parse(changed("solver: sgd", "solver: [sgd, {name: adam}]"))
    assert [a.label for a in study.arms()][:2] == ["drmad+sgd/0", "drmad+adam/0"]


def test_a_pruner_is_a_name_or_a_choice_with_options():
    study = study_file.parse(changed("startup: 5", "pruner: {name: hyperband, reduction: 2}") + "execution: serial\n")
    assert study.methods[1].options == {}
    assert study.methods[1].pruner.options == {"reduction": 2}
    assert study_file.parse(study_file.text(study)) == study
    short = study_file.parse(changed("{name: tpe, per: global, startup: 5}", "{name: tpe, pruner: median}"))
    assert [arm.label for arm in study.arms()[1:3]] == ["tpe-global-hyperband/0", "drmad/1"]
    assert short.arms()[1].label == "tpe-median/0"


def test_its_canonical_form_reads_back_and_names_it():
    study = study_file.parse(GOOD)
    again = spec.Study.model_validate(study.canonical())
    assert again == study
    assert again.digest() == study.digest()
    assert study_file.parse(changed("low: 1e-6", "low: 1e-5")).digest() != study.digest()


def test_its_text_reads_back():
    text = changed("name: small", "name: '1e5'").replace("- drmad", "- {name: drmad, clamp: null, label: 'no'}")
    study = study_file.parse(text)
    assert study_file.parse(study_file.text(study)) == study
    assert study.name == "1e5"
    assert study.methods[0].options == {"clamp": None}
    wide = study_file.parse(changed("- drmad", "- {name: drmad, label: ' Größe 🙂 '}"))
    assert wide.methods[0].label == "Größe 🙂"
    assert "label: Größe 🙂\n" in study_file.text(wide)
    assert study_file.parse(study_file.text(wide)) == wide


@pytest.mark.parametrize("label", ["", "  ", "a\\nb", "a\\tb"])
def test_labels_that_cannot_be_seen(label):
    for text in (
        changed("- drmad", f'- {{name: drmad, label: "{label}"}}'),
        changed("solver: sgd", f'solver: {{name: sgd, label: "{label}"}}'),
    ):
        with pytest.raises(BadStudy, match=r"label: .* must be one line of text that can be seen$"):
            study_file.parse(text)


def test_identity_leaves_out_what_may_change():
    study = study_file.parse(GOOD)
    assert study_file.parse(changed("trainings: 3", "trainings: 9")).identity() == study.identity()
    assert study_file.parse(changed("seeds: 2", "seeds: [0, 1, 7]")).identity() == study.identity()
    assert study_file.parse(changed("steps: 60", "steps: 61")).identity() != study.identity()


FAULTS = {
    "unknown key": ("low: 1e-6", "lwo: 1e-6", "space.l2.lwo: unknown key 'lwo': use one of .* did you mean 'low'"),
    "unknown top key": ("seeds: 2", "seed: 2", "seed: unknown key 'seed': .* did you mean 'seeds'"),
    "unknown model key": ("mlp: [50, 50]", "mpl: [50]", "problem.model.mpl: unknown key 'mpl': .* did you mean 'mlp'"),
    "wrong type": ("steps: 60", "steps: many", "training.steps: .*integer.*not 'many'"),
    "no steps": ("steps: 60", "steps: 0", "training.steps: .*greater than or equal to 1.*not 0"),
    "missing": ("budget: {trainings: 3}", "", "budget: this key is required"),
    "low above high": ("high: 1.0", "high: 1e-7", "space.l2: low 1e-06 must be below high 1e-07"),
    "not finite": ("high: 1.0", "high: .inf", "space.l2: high inf is not a finite number"),
    "unknown data": ("data: digits", "data: digit", "problem.data: unknown data set 'digit': .* did you mean 'digits'"),
    "unknown method": ("- drmad", "- dramd", "methods.0.name: unknown method 'dramd': .* did you mean 'drmad'"),
    "unknown solver": (
        "solver: sgd",
        "solver: sdg",
        "training.solver.0.name: unknown solver 'sdg': .* did you mean 'sgd'",
    ),
    "same solver": ("solver: sgd", "solver: [sgd, sgd]", "training.solver: .*different ones"),
    "no solver": ("solver: sgd", "solver: []", "training.solver: .*must name one solver"),
    "endless": ("{trainings: 3}", "{seconds: .inf}", "budget.seconds: .*finite"),
    "unknown grain": ("per: neuron", "per: unit", "space.l2.per: .*'global'.*not 'unit'"),
    "unknown activation": ("tanh", "tanj", "problem.model.activation: .*'tanh'.*not 'tanj'"),
    "unknown execution": (
        "seeds: 2",
        "execution: seriel",
        "execution: unknown execution 'seriel': .*did you mean 'serial'",
    ),
    "two budgets": (
        "{trainings: 3}",
        "{trainings: 3, seconds: 2}",
        "budget: give exactly one .* trainings and seconds",
    ),
    "no budget": ("{trainings: 3}", "{}", "budget: give exactly one .* given: nothing"),
    "rows": ("train: 300", "train: -3", "problem.split.train: -3 is neither a number of rows"),
    "fraction": ("validation: 0.5", "validation: 1.5", "problem.split.validation: 1.5 is neither"),
    "nan": ("validation: 0.5", "validation: .nan", "problem.split.validation: nan is neither"),
    "width": ("[50, 50]", "[50, 0]", "problem.model.mlp: layer widths must be 1 or more"),
    "model path": ("{mlp: [50, 50], activation: tanh}", "resnet", "problem.model: 'resnet' is neither"),
    "no seeds": ("seeds: 2", "seeds: 0", "seeds: 0 must be 1 or more, or a list"),
    "same seeds": ("seeds: 2", "seeds: [1, 1]", "seeds: .*must be distinct"),
    "huge seed": ("seeds: 2", "seeds: [9223372036854775808]", "seeds: .*between 0 and 2⁶³"),
    "name": ("name: small", "name: a/b", "name: 'a/b' must be up to 100 letters"),
    "truth for a number": ("steps: 60", "steps: true", "training.steps: .*integer, not True"),
    "text for a number": ("low: 1e-6", "low: '1e-6'", "space.l2.low: .*number, not '1e-6'"),
    "sexagesimal": ("steps: 60", "steps: 1:30", "training.steps: .*integer, not '1:30'"),
    "list as a key": ("name: small", "[a, b]: small", "not valid YAML"),
    "no such day": ("name: small", "name: 2020-99-99", "not valid YAML"),
    "unknown pruner": (
        "startup: 5",
        "pruner: ahsa",
        "methods.1.pruner.name: unknown pruner 'ahsa': .* did you mean 'asha'",
    ),
    "pruner of a hypergradient": (
        "- drmad",
        "- {name: drmad, pruner: {name: asha, reduction: 3}}",
        "methods.0: pruner: asha stops trainings that drmad needs whole .*: leave it out; cmaes, .*tpe take one",
    ),
    "pruner that is no choice": ("startup: 5", "pruner: 3", "methods.1.pruner: .*not 3"),
    "same method": ("- drmad", "- {name: tpe, per: global}", "methods: 'tpe-global' stands here twice"),
    "key twice": ("name: small", "name: small\nname: large", "key 'name' stands twice"),
    "not yaml": ("name: small", "name: [small", "not valid YAML"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_line_that_names_its_key(fault):
    old, new, message = FAULTS[fault]
    with pytest.raises(BadStudy, match=message) as caught:
        study_file.parse(changed(old, new), "my.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("my.yaml: ") for line in lines)
    assert len(lines) <= 2  # a mistyped required key is both unknown and missing


def test_all_faults_are_told_at_once():
    text = changed("low: 1e-6", "lwo: 1e-6").replace("steps: 60", "steps: 0")
    with pytest.raises(BadStudy) as caught:
        study_file.parse(text)
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadStudy, match="cannot be read.*hpo init"):
        study_file.load(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(BadStudy, match="is a mapping with the keys name, problem"):
        study_file.load(tmp_path / "list.yaml")


def test_the_fault_of_an_only_method_is_one_line():
    with pytest.raises(BadStudy) as caught:
        study_file.parse(
            studies_small.SMALL.replace("  - {name: drmad, krylov: 4, knots: 3}\n", "")
            .replace("  - {name: tpe, per: layer, startup: 2}\n", "")
            .replace("per: global}", "per: global, pruner: x}")
        )
    assert len(str(caught.value).splitlines()) == 1
