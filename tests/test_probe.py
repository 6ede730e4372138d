"""What a study will take is measured by a few steps before it runs, and by nothing else, and changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import studies_small
from click.testing import CliRunner
from studies_small import essence, study

from hpo import preparation
from hpo import study as loop
from hpo.cli import main
from hpo.execution.serial import Serial
from hpo.failures import BadStudy
from hpo.probe import STEPS, WARM_UP
from hpo.progress import Quiet
from hpo.reports import preview
from hpo.storage.ledger import Ledger

METHODS = ["drmad", "exact", {"name": "random", "per": "global"}]


def forecast(content, data_dir=None):
    """What `hpo check` says, by arm title."""
    executor = Serial(content.resources)
    plans = preparation.plans(content, executor, data_dir)
    report = preview.check(content, plans, preparation.probes(content, plans, executor, data_dir))
    return {arm["title"]: arm for arm in report["arms"]}


def test_time_is_the_charge_times_what_the_probe_found():
    arms = forecast(study(methods=METHODS))
    assert set(arms) == {"drmad", "exact", "random-global"}
    for arm in arms.values():
        seconds = arm["gradient_evaluations_per_trial"] * arm["seconds_per_gradient_evaluation"]
        assert arm["seconds_measuring"] > 0
        seconds += arm["seconds_measuring"]
        assert arm["seconds_per_trial"] == pytest.approx(seconds)
        assert seconds > 0
        assert arm["seconds"] == pytest.approx(5 * seconds)
    assert arms["exact"]["seconds_per_trial"] > arms["drmad"]["seconds_per_trial"]


def test_memory_is_data_weights_a_state_and_what_the_hypergradient_keeps():
    arms = forecast(study(methods=METHODS))
    data = 1797 * (64 * 4 + 8)  # float32 images and int64 labels, all rows of digits
    weights = 4 * (64 * 8 + 8 + 8 * 10 + 10)
    plain = data + weights + 2 * weights
    assert arms["random-global"]["memory_bytes"] == plain
    assert arms["exact"]["memory_bytes"] == plain + 30 * 2 * weights
    assert arms["drmad"]["memory_bytes"] == plain + (4 * 2 + 5 * 12) * weights  # four states, Krylov spaces of 12


def test_every_solver_is_probed_for_itself():
    training = {"solver": ["sgd", "adam"], "steps": 30, "batch_size": 50}
    arms = forecast(study(methods=["exact", "random"], training=training, space={"l2": {}}))
    each = {title: arm["seconds_per_gradient_evaluation"] for title, arm in arms.items()}
    assert each["exact+sgd"] == each["random+sgd"] != each["exact+adam"] == each["random+adam"]
    assert arms["random+adam"]["memory_bytes"] > arms["random+sgd"]["memory_bytes"]


def test_a_schedule_shorter_than_the_probe_is_no_obstacle():
    training = {"solver": "sgd", "steps": 3, "batch_size": 50}
    assert training["steps"] < WARM_UP + STEPS
    arms = forecast(study(methods=["exact"], training=training, space={"learning_rate": {"per": "step"}}))
    assert arms["exact"]["seconds"] > 0


SLOW = """
import time

import torch

steps = 0


class Slow(torch.nn.Linear):
    def forward(self, x):
        global steps
        if len(x) == 50:
            steps += 1
            time.sleep({pause})
        return super().forward(x.flatten(1))


class Broken(torch.nn.Linear):
    def forward(self, x):
        if torch.is_grad_enabled() and len(x) == 50:
            {fault}
        return super().forward(x.flatten(1))


def slow(shape, outputs):
    return Slow(64, outputs)


def broken(shape, outputs):
    return Broken(64, outputs)
"""


def own(folder, name, function, **pieces):
    """A study of a module of one's own in a folder."""
    Path(folder / f"{name}.py").write_text(SLOW.format(**{"pause": 0, "fault": "pass"} | pieces))
    problem = {"data": "digits", "split": {"train": 100, "validation": 200}, "model": f"{name}:{function}"}
    return study(problem=problem, methods=["random"], seeds=3)


@pytest.mark.parametrize(("pause", "most"), [(0, WARM_UP + STEPS), (0.15, 4)])
def test_a_probe_is_short(tmp_path, monkeypatch, pause, most):
    """Once a solver, not once a seed; and a slow model is given up sooner."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"slow{most}"
    arms = forecast(own(tmp_path, name, "slow", pause=pause))
    assert 2 <= sys.modules[name].steps <= most
    assert arms["random"]["seconds_per_gradient_evaluation"] >= pause


@pytest.mark.parametrize(
    ("fault", "reason"), [("raise ValueError('odd')", "ValueError: odd"), ("raise SystemExit(3)", "SystemExit: 3")]
)
def test_a_step_that_fails_is_told_before_it_is_run(tmp_path, monkeypatch, fault, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    content = own(tmp_path, f"broken{len(fault)}", "broken", fault=fault)
    with pytest.raises(BadStudy, match=f"training: a step of random fails: {reason}"):
        forecast(content)


def test_a_probe_changes_nothing(tmp_path):
    """The trials, the study's digest and its identity are those of a study that was never checked."""

    def run(content, name):
        with (
            preparation.prepared(content, None) as ready,
            Ledger.open(f"sqlite:///{tmp_path}/{name}.db") as ledger,
        ):
            loop.run(ready, ledger, Quiet(), {})
            return essence(ledger, "small")

    content = study(seeds=1)
    before = content.digest(), content.identity()
    unprobed = run(content, "unprobed")
    forecast(content)
    assert (content.digest(), content.identity()) == before
    assert run(content, "probed") == unprobed


def test_check_prints_it_and_makes_no_database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(studies_small.SMALL)
    printed = CliRunner().invoke(main, ["check", "small.yaml"])
    assert (printed.exit_code, "a trial" in printed.output) == (0, True), printed.output
    report = json.loads(CliRunner().invoke(main, ["check", "small.yaml", "--json"]).output)
    for arm in report["arms"]:
        assert min(arm["seconds_per_trial"], arm["memory_bytes"], arm["seconds"]) > 0
    assert report["seconds"] == pytest.approx(sum(arm["seconds"] for arm in report["arms"]))
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(("command", "probes"), [("run", False), ("check", True)])
def test_only_check_probes(tmp_path, command, probes):
    (tmp_path / "small.yaml").write_text(studies_small.SMALL)
    script = (
        f"import sys\nfrom hpo.cli import main\ntry:\n    main([{command!r}, 'small.yaml'])\n"
        "except SystemExit as end:\n    assert not end.code\nprint('hpo.probe' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ)
    )
    assert done.stderr.split()[-1] == str(probes)
