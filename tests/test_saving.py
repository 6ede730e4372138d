"""A trial evaluated at a desk: saved when it is interrupted, continued by another evaluation, digit for digit."""

import importlib
import uuid
from dataclasses import replace

import numpy as np
import pytest
import studies_small

from hpo import evaluation, preparation, saving
from hpo.execution.serial import Serial
from hpo.failures import BadStorage
from hpo.storage.claims import Terms
from hpo.storage.desk import Desk
from hpo.storage.leases import USUAL
from hpo.storage.ledger import Ledger
from hpo.task import Task
from hpo.trial import Proposal

MODULE = """
import torch

calls, at = 0, None

class Bell(torch.nn.Linear):
    def forward(self, x):
        global calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return super().forward(x.flatten(1))

def net(shape, outputs):
    return Bell(64, outputs)
"""


@pytest.fixture
def bell(tmp_path, monkeypatch):
    """A module of the user's own in which Ctrl-C falls at the call `at`."""
    name = f"bell_{uuid.uuid4().hex}"  # what is built from it is kept by name
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module(name)


@pytest.fixture(params=["drmad", "exact", "online", "random"])
def work(request, bell, tmp_path):
    """(task, desk, ledger) of a claimed trial."""
    problem = {**studies_small.study().canonical()["problem"], "model": f"{bell.__name__}:net"}
    training = {"solver": {"name": "sgd", "momentum": 0.9}, "steps": 200, "batch_size": 50}
    study = studies_small.study(
        problem=problem, training=training, methods=[{"name": request.param}], seeds=[0], resources={"checkpoint": 0.0}
    )
    plan = preparation.plans(study, Serial(study.resources), None)[f"{request.param}/0"]
    derivative = None if request.param == "random" else request.param
    task = Task(study, study.arms()[0], plan, Proposal(0, plan.space.defaults(), derivative), None)
    url = f"sqlite:///{tmp_path}/hpo.db"
    with Ledger.open(url) as ledger:
        ledger.begin(study, {})
        with ledger.attend("small", 1) as lease:
            claim = ledger.claim(lease, f"{request.param}/0", task.proposal, 0.0, Terms("trainings", 9.0, 1.0, 1))
            assert claim is not None
            yield task, Desk(url, claim), ledger


def essence(outcome):
    """All but times."""
    named = {**(outcome.hypergradient or {}), **{f"ends.{k}": v for k, v in (outcome.ends or {}).items()}}
    named |= {f"weights.{k}": v for k, v in (outcome.weights or {}).items()}
    arrays = {name: array.tobytes() for name, array in {**named, "curve": outcome.curve}.items()}
    figures = outcome.state, outcome.validation_loss, outcome.test_loss, outcome.cost.gradient_evaluations
    return figures, arrays, dict(outcome.report)


def interrupted(bell, task, desk, at):
    """How far it got, from a look at the checkpoint."""
    bell.calls, bell.at = 0, at
    with desk, pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(task, desk)
    bell.at = None


def test_an_interrupted_training_goes_on_digit_for_digit(work, bell):
    task, desk, ledger = work
    bell.calls = 0
    whole = essence(evaluation.evaluate(task))
    total = bell.calls
    for at in (total // 5, total // 8):
        interrupted(bell, task, desk, at)
        desk = Desk(desk.url, desk.claim._replace(saved=True))
        saved = ledger.saved(desk.claim)
        assert saved is not None
        assert int(saved["form"]) == saving.FORM
    bell.calls = 0
    with desk:
        assert essence(evaluation.evaluate(task, desk)) == whole
    assert bell.calls < total, "the beginning was not done again"


def test_what_another_hpo_saved_is_not_believed(work, caplog):
    task, desk, ledger = work
    whole = essence(evaluation.evaluate(task))
    assert ledger.save(desk.claim, {"form": np.array(99), "kept/state/3/0": np.ones(3)})
    with Desk(desk.url, desk.claim._replace(saved=True)) as other:
        assert essence(evaluation.evaluate(task, other)) == whole
    assert "saved by another hpo, in a form that this one does not read: it begins again" in caplog.text


def test_a_checkpoint_that_cannot_be_reached_is_no_failed_training(work, tmp_path):
    task, desk, _ = work
    gone = Desk(f"sqlite:///{tmp_path}/gone.db", desk.claim._replace(saved=True), USUAL._replace(patience=0.0))
    with pytest.raises(BadStorage, match="there is no file"):
        evaluation.evaluate(task, gone)


def test_heavy_notes_are_not_held(work, monkeypatch, bell):
    """Such a training is saved every so many seconds only: nothing holds on to what it lets go."""
    task, desk, ledger = work
    monkeypatch.setattr(saving, "LIGHT", 1000)
    task = replace(task, study=task.study.model_copy(update={"resources": studies_small.study().resources}))
    interrupted(bell, task, desk, 150)
    assert ledger.saved(desk.claim) is None
