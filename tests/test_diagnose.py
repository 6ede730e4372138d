"""`hpo check --diagnose` from the command line: every part, what is left out and why, and nothing that is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import studies_small
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from hpo.cli import main
from hpo.diagnosis.part import part
from hpo.problems.problem import build

MODULES = """
import torch


class Residual(torch.nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.inner = torch.nn.Linear(features, features)
        self.head = torch.nn.Linear(features, outputs)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x + torch.relu(self.inner(x)))


class Shy(torch.nn.Linear):
    def forward(self, x):
        if len(x) == 1:
            raise ValueError("one row is no batch")
        return super().forward(x.flatten(1))


def residual(shape, outputs):
    return Residual(64, outputs)


def shy(shape, outputs):
    return Shy(64, outputs)


def repeated():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 4, 2, 1, generator=generator)
    inputs[30:] = inputs[:30]
    return inputs.numpy(), (torch.arange(60) % 2 + torch.arange(60).div(30, rounding_mode="floor")).numpy() % 2
"""


def tiny(*changes):
    """The small study with one seed and some pieces of its text replaced."""
    text = studies_small.SMALL
    for old, new in (("seeds: 2", "seeds: [3]"), *changes):
        assert old in text
        text = text.replace(old, new)
    return text


TINY = tiny()
SPLIT, MODEL = "{train: 100, validation: 200}", "{mlp: [8], activation: relu}"
RATE, BATCH = "low: 3e-3, high: 1.0, default: 0.1", "batch_size: 50"


def hpo(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], env={"HPO_DATA": ""})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "diagnosed.py").write_text(MODULES)
    return tmp_path


def diagnosed(text, *options):
    """The JSON of a diagnosis."""
    Path("small.yaml").write_text(text)
    result = hpo("check", "small.yaml", "--diagnose", "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)["diagnosis"]


def printed(text, *options):
    """What a person reads, without line breaks."""
    Path("small.yaml").write_text(text)
    result = hpo("check", "small.yaml", "--diagnose", *options)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    return " ".join(result.output.split())


def test_every_part_of_a_perceptron(here):
    found = diagnosed(TINY, "--widths", "200,2")
    before, along = found["before"], found["along"]["sgd"]
    assert (found["seed"], list(found["along"])) == (3, ["sgd"])
    assert (before["rows"], before["features"], before["outputs"], before["data"]) == (100, 64, 10, "digits")
    parts = {**{k: v for k, v in before.items() if isinstance(v, dict)}, **along}
    assert set(parts) == {
        "repeats", "separation", "theory", "kernel", "descent", "flips", "stability", "widths",
    }  # fmt: skip
    for name, each in parts.items():
        assert each["found"] is not None, (name, each["reason"])
        assert each["seconds"] >= 0
    assert [path.name for path in here.iterdir() if path.suffix == ".db"] == []


def test_its_figures_are_those_of_the_study(here):
    """Worked out once more from the problem itself."""
    found = diagnosed(TINY)
    problem = build(studies_small.study().problem, 50, 3, None)
    before, descent = found["before"], found["along"]["sgd"]["descent"]["found"]
    unit = F.normalize(problem.train.inputs.flatten(1).double(), dim=1)
    distances = torch.linalg.vector_norm(unit[:, None] - unit[None], dim=2).fill_diagonal_(torch.inf)
    separation = before["separation"]["found"]
    assert separation["closest"]["distance"] == pytest.approx(float(distances.min()), rel=1e-9)
    assert separation["closest"]["padded"] == pytest.approx(float(distances.min()) / 2**0.5, rel=1e-9)
    assert (separation["closest"]["rows"], separation["of"]) == (100, 100)
    assert before["theory"]["found"]["width"] == 8
    assert before["kernel"]["found"]["rows"] == 100
    assert before["kernel"]["found"]["weights"] == 64 * 8 + 8 + 8 * 10 + 10
    first = descent["points"][0]
    points = {name: w.clone().requires_grad_() for name, w in problem.weights.items()}
    loss = problem.criterion(problem.network.forward(points, problem.train.inputs), problem.train.targets)
    slopes = torch.autograd.grad(loss, list(points.values()))
    assert first["step"] == 0
    assert first["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert first["squared_gradient"] == pytest.approx(sum(float(s.square().sum()) for s in slopes), rel=1e-4)
    assert first["ratio"] == pytest.approx(first["squared_gradient"] / first["loss"])
    assert first["following"] == pytest.approx(first["forecast"], rel=0.05)
    assert descent["points"][-1]["step"] == 30
    assert descent["points"][-1]["following"] is None
    assert [layer["name"] for layer in descent["movement"]] == ["layers.0.weight", "layers.1.weight"]
    assert all(0 < layer["spectral"] < 2 for layer in descent["movement"])
    [stage] = found["along"]["sgd"]["flips"]["found"]
    assert stage["name"] == "layers.0"
    assert 0 < stage["share"] < 0.5


def test_the_closest_rows_are_named_as_in_the_file(here):
    """Row numbers are those of the data set, whatever the split has made of them."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 5)).astype(np.float32).reshape(50, 5, 1)
    x[41] = 2 * x[7]
    y = np.arange(50) % 2
    np.savez(here / "rows.npz", x=x, y=y, class_names=np.array(["even", "odd"]))
    text = tiny(("data: digits", "data: rows.npz"), (SPLIT, "{train: 47, validation: 2}"), (BATCH, "batch_size: 10"))
    found = diagnosed(text)["before"]["separation"]["found"]
    assert set(found["places"]) == {7, 41}
    assert found["targets"] == ["odd", "odd"]
    assert found["closest"]["distance"] < 1e-6
    assert {found["closest"]["first"], found["closest"]["second"]} != {7, 41}


def test_repeated_rows_with_other_labels(here):
    data, split = "data: diagnosed:repeated", "{train: 56, validation: 2}"
    text = tiny(("data: digits", data), (SPLIT, split), (BATCH, "batch_size: 10"))
    found = diagnosed(text, "--widths", "3")
    repeats = found["before"]["repeats"]["found"]
    pairs = repeats["conflicting"] // 2
    assert pairs == repeats["repeated"] >= 26
    assert repeats["loss"] == pytest.approx(2 * pairs * np.log(2) / 56)
    assert repeats["error"] == pytest.approx(pairs / 56)
    first, second = repeats["example"]
    assert abs(first - second) == 30
    assert found["before"]["separation"]["found"]["of"] == 56 - pairs
    assert found["along"]["sgd"]["widths"]["found"]["goal"] == repeats["error"]
    said = printed(text)
    assert f"{2 * pairs} are in groups of equal rows with different targets (as rows {first} and {second} of" in said
    assert "no share of wrong training rows below" in said


def test_what_is_printed(here):
    said = printed(TINY, "--widths", "2,100,300")
    assert "100 training rows of 64 numbers" in said
    assert "no two are equal, so nothing keeps the training loss above 0." in said
    assert "the theorem asks for a width of m ≥ 10^" in said
    assert "No network comes near: no verdict." in said
    assert "It must be singular: 1000 outputs of 610 weights." in said
    assert "F is the training loss without penalty on 100 of 100 rows." in said
    assert "step F ‖∇F‖² ‖∇F‖²/F" in said
    assert "step size × largest curvature of F on 100 of 100 rows" in said
    assert "2 ends with a share of wrong training rows of" in said


def test_a_width_that_fits_ends_the_search(here):
    rate = RATE.replace("0.1", "0.3")
    longer = tiny(("steps: 30", "steps: 300"), (RATE, rate), ("default: 1e-3", "default: 1e-6"))
    widths = diagnosed(longer, "--widths", "300,100,1,100")["along"]["sgd"]["widths"]["found"]
    assert [fit["width"] for fit in widths["tried"]] == [1, 100]
    one, hundred = widths["tried"]
    assert (one["step"], hundred["error"], widths["left"]) == (None, 0.0, [300])
    assert one["error"] > 0.3
    assert 0 < hundred["step"] <= 300
    assert hundred["step"] % 15 == 0
    said = printed(longer, "--widths", "1,100,300")
    assert "100 is the smallest that fits: share of wrong training rows at most 0 %, first seen at step" in said
    assert "Not tried: 300." in said


def test_a_regression(here):
    text = tiny(("data: digits", "data: diabetes"), ("train: 100", "train: 60"))
    found = diagnosed(text, "--widths", "4")
    assert found["before"]["repeats"]["found"]["error"] is None
    assert found["before"]["outputs"] == 1
    widths = found["along"]["sgd"]["widths"]["found"]
    assert (widths["regression"], widths["goal"]) == (True, 0.01)
    assert "4 ends with a mean squared error of" in printed(text, "--widths", "4")


def test_a_model_that_is_no_chain_has_no_flips(here):
    text = tiny((MODEL, "diagnosed:residual"))
    found = diagnosed(text, "--widths", "5")
    assert found["before"]["kernel"]["found"]["rows"] == 100
    along = found["along"]["sgd"]
    assert along["descent"]["found"]["movement"][0]["name"] == "inner.weight"
    for name, reason in {
        "flips": "not known to be a chain of layers: a perceptron, or a plain nn.Sequential",
        "widths": "only a perceptron of the study file with hidden layers can be made wider",
    }.items():
        assert along[name]["found"] is None
        assert reason in along[name]["reason"]
    assert "left out: the model is not known to be a chain of layers" in printed(text)
    assert "fully connected networks with a hidden layer" in found["before"]["theory"]["reason"]


def test_a_part_that_fails_leaves_the_others_alone(here):
    found = diagnosed(tiny((MODEL, "diagnosed:shy")))
    assert found["before"]["kernel"]["reason"] == "ValueError: one row is no batch"
    assert found["along"]["sgd"]["descent"]["found"]["points"]


def test_whatever_the_users_code_raises_is_the_reason():
    def leaves():
        raise SystemExit(3)

    assert (part(leaves).found, part(leaves).reason) == (None, "SystemExit: 3")
    assert part(lambda: 7).found == 7


def test_every_solver_of_the_study(here):
    text = tiny(("solver: sgd", "solver: [sgd, adam]"), (RATE, "low: 1e-3, high: 1.0, default: 0.01"))
    along = diagnosed(text)["along"]
    assert list(along) == ["sgd", "adam"]
    assert along["sgd"]["stability"]["found"]["limit"] == 2
    assert along["adam"]["stability"]["found"]["limit"] == pytest.approx(3.8)
    first = [along[name]["descent"]["found"]["points"][0]["loss"] for name in along]
    assert first[0] == first[1]


def test_a_training_that_diverges(here):
    wild = tiny((RATE, "low: 3e-3, high: 1e9, default: 1e8"))
    found = diagnosed(wild, "--widths", "4")["along"]["sgd"]
    assert found["descent"]["found"]["diverged"] is not None
    assert found["descent"]["found"]["points"][0]["loss"] > 0
    assert found["widths"]["found"]["tried"][0]["error"] is None
    said = printed(wild, "--widths", "4")
    assert "The training diverges: weights are not finite at step" in said
    assert "4 diverges." in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--widths", "5"], "--widths belongs to --diagnose: give both"),
        (["--diagnose", "--widths", "5,a"], "--widths '5,a': give whole numbers of 1 or more"),
        (["--diagnose", "--widths", "0"], "--widths '0': give whole numbers"),
        (["--diagnose", "--widths", ""], "--widths '': give whole numbers"),
    ],
)
def test_options_that_cannot_be_used(here, options, message):
    (here / "small.yaml").write_text(TINY)
    result = hpo("check", "small.yaml", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1


def test_a_check_without_it_says_nothing_of_it(here):
    (here / "small.yaml").write_text(TINY)
    assert "diagnosis" not in json.loads(hpo("check", "small.yaml", "--json").output)
