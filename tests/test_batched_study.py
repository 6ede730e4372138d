"""Studies whose trainings are stacked: every trial once, with the outcome it has alone, whatever is killed."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager

import numpy as np
import pytest
import studies_small
import yaml
from sqlalchemy import func, select

from hpo import preparation, stacking
from hpo import study as loop
from hpo.execution import worker
from hpo.execution.batched import Batched
from hpo.execution.serial import Serial
from hpo.probe import WIDTHS
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger
from hpo.storage.tables import CheckpointRow, EventRow
from hpo.task import Task
from hpo.trial import Proposal

METHODS = [
    {"name": "drmad", "krylov": 4, "knots": 3},
    {"name": "exact"},
    {"name": "random"},
    {"name": "tpe", "per": "layer", "startup": 2, "batch": 3},
]
COMMAND = [sys.executable, "-c", "from hpo.cli import main; main()"]


def batched(**changes):
    resources = {"workers": 2, "replicas": 4, **changes.pop("resources", {})}
    return studies_small.study(**{"methods": METHODS, "resources": resources, "execution": "batched", **changes})


def run(study, storage):
    with preparation.prepared(study, None) as ready, Ledger.open(storage) as ledger:
        loop.run(ready, ledger, Quiet(), {})
        return trials(ledger, study.name)


def trials(ledger, name):
    return {(a.label, t.number): t for a in ledger.arms(name) for t in ledger.trials(name, a.label)}


def alike(found, expected):
    """The same trials to rounding; a descent's values follow from slopes, so they are not compared bit by bit."""
    assert found.keys() == expected.keys()
    for key, trial in found.items():
        other = expected[key]
        assert trial.state == other.state == "complete"
        np.testing.assert_allclose(trial.outcome.validation_loss, other.outcome.validation_loss, rtol=1e-2)
        assert trial.outcome.cost.gradient_evaluations == other.outcome.cost.gradient_evaluations


def test_trials_are_those_of_a_serial_run(tmp_path):
    methods = [m for m in METHODS if m["name"] != "tpe"]  # which learns from fewer while several are under way
    found = run(batched(methods=methods), f"sqlite:///{tmp_path}/stacked.db")
    alike(found, run(studies_small.study(methods=methods), f"sqlite:///{tmp_path}/serial.db"))


def test_strategies_have_as_many_trials_under_way_as_they_like(tmp_path):
    study = batched(seeds=[0], resources={"workers": 1, "replicas": 8}, budget={"trainings": 9})
    most = {}

    class Counting(Quiet):
        def opened(self, arm, proposal):
            most[arm.label] = max(most.get(arm.label, 0), arm.running)

    with preparation.prepared(study, None) as ready, Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        loop.run(ready, ledger, Counting(), {})
    assert most["drmad/0"] == most["exact/0"] == 1
    assert most["tpe-layer/0"] == 3
    assert 3 <= most["random/0"] <= 8


MODULE = """
import os, pathlib, signal, torch

class Fragile(torch.nn.Linear):
    def forward(self, x):
        flag = pathlib.Path(__file__).with_suffix(".flag")
        if flag.exists() and x.shape[0] == 50:
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x.flatten(1))

def net(shape, outputs):
    return Fragile(64, outputs)
"""


def test_a_worker_that_dies_with_a_stack_costs_each_trial_one_more_try_alone(tmp_path, monkeypatch):
    name = f"fragile_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    problem = {**studies_small.study().canonical()["problem"], "model": f"{name}:net"}
    study = batched(methods=[{"name": "random"}], problem=problem, seeds=[0], budget={"trainings": 8})
    with preparation.prepared(study, None) as ready, Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        (tmp_path / f"{name}.flag").touch()
        loop.run(ready, ledger, Quiet(), {})
        found = trials(ledger, study.name)
        with ledger._database.read() as session:
            crashes = session.scalar(select(func.count()).select_from(EventRow).where(EventRow.kind == "crashed"))
    assert len(found) == 8
    assert all(trial.state == "complete" for trial in found.values())
    assert crashes == 4


POISON = """
import os, signal, torch

class Poisoned(torch.nn.Linear):
    def forward(self, x):
        outputs = super().forward(x.flatten(1))
        if x.shape[0] == 50 and float(outputs.detach().abs().max()) > 1e4:
            os.kill(os.getpid(), signal.SIGKILL)
        return outputs

def net(shape, outputs):
    return Poisoned(64, outputs)
"""


def test_a_training_that_kills_its_worker_takes_no_other_with_it(tmp_path, monkeypatch):
    name = f"poison_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(POISON)
    monkeypatch.syspath_prepend(str(tmp_path))
    problem = {**studies_small.study().canonical()["problem"], "model": f"{name}:net"}
    space = {"learning_rate": {"per": "global", "low": 1e-4, "high": 1e6, "default": 1e-3}}
    study = batched(methods=[{"name": "random"}], problem=problem, space=space, seeds=[0], budget={"trainings": 8})
    found = run(study, f"sqlite:///{tmp_path}/hpo.db")
    rates = {key: trial.proposal.values["learning_rate"][0] for key, trial in found.items()}
    assert len(found) == 8
    assert {rates[key] > 1e2 for key, trial in found.items() if trial.state == "failed"} == {True}
    assert {rates[key] < 1e2 for key, trial in found.items() if trial.state == "complete"} == {True}


def test_what_waits_for_company_is_forgotten_with_the_lease():
    study = batched(methods=[{"name": "random"}], seeds=[0])
    plan = preparation.plans(study, Serial(study.resources), None)["random/0"]
    executor = Batched(study.resources, Serial(study.resources), 4)
    task = Task(study, study.arms()[0], plan, Proposal(0, plan.space.defaults()), None)
    future = executor.submit(worker.evaluate, task, None)
    executor.forget()
    assert future.cancelled()
    assert executor.free == 4
    assert executor.start() == []


@contextmanager
def started(arguments, storage):
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--storage", storage, "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_broken_off_in_the_middle_of_its_stacks_goes_on(tmp_path, sent, workers):
    training = {"solver": {"name": "sgd", "momentum": 0.9}, "steps": 8000, "batch_size": 50}
    resources = {"workers": workers, "replicas": 3, "checkpoint": 0.2}
    study = batched(
        methods=[{"name": "random"}], seeds=[0], training=training, resources=resources, budget={"trainings": 7}
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study.canonical()))
    storage = f"sqlite:///{tmp_path}/hpo.db"
    with started(["run", str(tmp_path / "small.yaml")], storage) as process:
        while process.poll() is None and checkpoints(storage, tmp_path) < 3:
            time.sleep(0.05)
        process.send_signal(sent)
        _, error = process.communicate(timeout=120)
        assert process.returncode == (-9 if sent == signal.SIGKILL else 130), error
    with Ledger.open(storage, create=False) as ledger:
        before = trials(ledger, "small")
        assert checkpoints(storage, tmp_path) >= 3
        assert any(trial.state == "running" for trial in before.values())
    with started(["resume", "small"], storage) as process:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    with Ledger.open(storage, create=False) as ledger:
        after = trials(ledger, "small")
    assert sorted(number for _, number in after) == list(range(7))
    assert all(trial.state == "complete" for trial in after.values())
    for key, trial in before.items():
        assert all(np.array_equal(v, after[key].proposal.values[n]) for n, v in trial.proposal.values.items())


def checkpoints(storage, folder):
    """How many trials are saved; 0 while there is no database."""
    if not (folder / "hpo.db").exists():
        return 0
    try:
        with Ledger.open(storage, create=False) as ledger, ledger._database.read() as session:
            return session.scalar(select(func.count(func.distinct(CheckpointRow.trial_id)))) or 0
    except Exception:  # it is just being made
        return 0


def test_what_waits_is_shared_out_evenly():
    study = batched(methods=[{"name": "random"}], seeds=[0])
    plan = preparation.plans(study, Serial(study.resources), None)["random/0"]
    executor = Batched(study.resources)
    try:
        assert (executor.slots, executor.width, executor.free) == (2, 4, 8)
        proposals = [Proposal(i, plan.space.defaults()) for i in range(6)]
        futures = [
            executor.submit(worker.evaluate, Task(study, study.arms()[0], plan, p, None), None) for p in proposals
        ]
        assert executor.free == 2
        assert executor.place(futures[0]) is None
        assert set(executor.start()) == set(futures)
        assert [executor.place(future).slot for future in futures] == [0, 0, 0, 1, 1, 1]
        outcomes = [future.result() for future in futures]
        assert len({outcome.validation_loss for outcome in outcomes}) == 1
        assert executor.free == 8
    finally:
        executor.close()


def fitting(study):
    executor = Serial(study.resources)
    return stacking.fitting(study, preparation.plans(study, executor, None), executor, None)


def test_auto_measures_only_what_is_long_and_wide():
    many = {"methods": [{"name": "random"}], "execution": "auto", "resources": {"replicas": None}}
    assert isinstance(fitting(batched(**many, budget={"trainings": 5})), Serial)
    sequence = {**many, "methods": [{"name": "drmad", "krylov": 4, "knots": 3}], "seeds": [0]}
    assert isinstance(fitting(batched(**sequence, budget={"trainings": 100_000})), Serial)
    long = fitting(batched(**many, budget={"trainings": 100_000}))
    assert isinstance(long, Batched), "so small a network is many times faster stacked"
    assert long.width in WIDTHS


def test_batched_measures_how_many_unless_told():
    told = fitting(batched(resources={"workers": 1, "replicas": 5}))
    assert told.width == 5
    measured = fitting(batched(methods=[{"name": "random"}], resources={"workers": 1, "replicas": None}))
    assert measured.width in (8, 10)
    assert isinstance(fitting(batched(execution="serial")), Serial)


def test_replicas_are_meant_without_saying_batched():
    assert fitting(batched(execution="auto", resources={"workers": 1, "replicas": 5})).width == 5


def test_a_generation_is_counted_before_anything_is_known_of_it():
    study = batched(methods=[{"name": "cmaes", "batch": 4}], seeds=[0], resources={"workers": 1, "replicas": None})
    plans = preparation.plans(study, Serial(study.resources), None)
    assert stacking._at_once(study, study.arms()[0], plans["cmaes/0"]) == 4
