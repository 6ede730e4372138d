"""A training for which a card has no room: tried once more, alone there, from where it was saved; then it fails."""

import sqlite3

import pytest
import studies_small

from hpo import evaluation, preparation
from hpo import study as loop
from hpo.execution import worker
from hpo.failures import StudyFailed
from hpo.progress import Quiet
from hpo.storage.claims import Terms
from hpo.storage.ledger import Ledger
from hpo.task import OutOfMemory, Task
from hpo.trial import Proposal

MODULE = '''
from pathlib import Path

import torch

HUNGRY = Path({path!r})
SAID = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.20 GiB is free."
)


class Hungry(torch.nn.Linear):
    """Has no room as often as there are files, in the middle of a training."""

    def forward(self, inputs):
        if inputs.shape[0] == 50 and torch.is_grad_enabled():
            for one in HUNGRY.glob("*"):
                try:
                    one.unlink()
                except FileNotFoundError:
                    continue  # another process's
                raise torch.OutOfMemoryError(SAID)
        return super().forward(inputs.flatten(1))


def net(shape, outputs):
    return Hungry(64, outputs)
'''


@pytest.fixture
def hungry(tmp_path, monkeypatch):
    """A study of one arm whose trainings have no room while there are files in a folder."""
    path = tmp_path / "left"
    path.mkdir()
    name = f"hungry_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(path=str(path)))
    monkeypatch.syspath_prepend(str(tmp_path))

    def study(**changes):
        problem = {**studies_small.study().canonical()["problem"], "model": f"{name}:net"}
        given = {"methods": [{"name": "random", "per": "global"}], "seeds": [0], "budget": {"trainings": 4}, **changes}
        return studies_small.study(problem=problem, **given)

    return path, study


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as opened:
        yield opened


def short(path, times):
    for number in range(times):
        (path / str(number)).touch()


def run(study, ledger, path, times):
    """Run it, its trainings short of room so many times."""
    with preparation.prepared(study, None) as ready:
        short(path, times)
        loop.run(ready, ledger, Quiet(), {})


def events(tmp_path):
    with sqlite3.connect(tmp_path / "hpo.db") as database:
        kinds = [kind for (kind,) in database.execute("SELECT kind FROM hpo_event WHERE trial_id IS NOT NULL")]
    database.close()
    return kinds


def test_a_training_says_so_instead_of_failing(hungry):
    path, study = hungry
    given = study()
    arm = given.arms()[0]
    plan = evaluation.plan(given, arm, None)
    task = Task(given, arm, plan, Proposal(0, plan.space.defaults(), None), None)
    short(path, 1)
    with pytest.raises(OutOfMemory, match=r"^asked for 2\.00 GiB$") as caught:
        worker.evaluate(task)
    assert caught.value.__context__ is None, "what the error's frames held is free"
    assert worker.evaluate(task).state == "complete"


@pytest.mark.parametrize("workers", [1, 2])
def test_it_is_tried_once_more_alone(hungry, ledger, tmp_path, workers):
    """One worker's first trial, or the first of each of two."""
    path, study = hungry
    run(study(resources={"workers": workers}, execution="processes"), ledger, path, workers)
    outcomes = [trial.outcome for trial in ledger.trials("small", "random-global/0")]
    assert [outcome.state for outcome in outcomes] == ["complete"] * 4
    assert events(tmp_path) == ["exhausted"] * workers


def test_in_the_process_of_the_run_as_well(hungry, ledger, tmp_path):
    path, study = hungry
    run(study(), ledger, path, 1)
    assert {trial.outcome.state for trial in ledger.trials("small", "random-global/0")} == {"complete"}
    assert events(tmp_path) == ["exhausted"]


def test_then_it_has_failed_with_the_figure(hungry, ledger, tmp_path):
    path, study = hungry
    with pytest.raises(StudyFailed, match="no trial of random-global/0 ended with a finite validation loss"):
        run(study(budget={"trainings": 2}, resources={"workers": 2}), ledger, path, 100)
    for trial in ledger.trials("small", "random-global/0"):
        assert trial.outcome.state == "failed"
        assert trial.outcome.failure == "out of memory, alone on its card too: asked for 2.00 GiB"
        assert trial.outcome.cost.trainings == 1
    assert events(tmp_path) == ["exhausted"] * 4


@pytest.mark.parametrize(
    ("times", "failure"),
    [
        (1, "out of memory, alone on its card too: asked for 2.00 GiB"),
        (2, "a card had no memory for this trial 2 times"),
    ],
)
def test_another_run_that_takes_it_up_lets_it_be_alone(hungry, ledger, times, failure):
    path, study = hungry
    given = study(budget={"trainings": 2})
    with preparation.prepared(given, None) as ready:
        preparation.store(ready, ledger, {})
        values = next(iter(ready.plans.values())).space.defaults()
        with pytest.raises(KeyboardInterrupt), ledger.attend("small", 1) as lease:
            claim = ledger.claim(lease, "random-global/0", Proposal(0, values, None), 0.0, Terms("trainings", 2, 1, 1))
            for attempt in range(times):
                ledger.broken(claim, attempt, "exhausted")
            raise KeyboardInterrupt
        short(path, 1)
        loop.run(ready, ledger, Quiet(), {})
    first, second = (trial.outcome for trial in ledger.trials("small", "random-global/0"))
    assert (first.state, first.failure) == ("failed", failure)
    assert second.state == "complete"
