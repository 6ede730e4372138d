"""Trials as tasks of a Ray that is started for them on this machine."""

import importlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import studies_small
import torch
import yaml

from hpo import preparation
from hpo import study as loop
from hpo.failures import BadStorage, BadStudy
from hpo.progress import Quiet
from hpo.registry import EXECUTORS, resolve
from hpo.spec import Resources
from hpo.storage.ledger import Ledger

pytest.importorskip("ray", reason="ray is not installed: pip install 'hpo[ray]'")

COMMAND = [sys.executable, "-c", "from hpo.cli import main; main()"]


def resources(**given):
    return Resources.model_validate(given)


def ray(*arguments):
    return resolve(EXECUTORS["ray"])(*arguments)


@pytest.fixture(scope="module")
def executor():
    made = ray(resources(workers=2), "local")
    yield made
    made.close()


def double(x):
    return 2 * x


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def warn():
    logging.getLogger("hpo.storage.desk").warning("trial %d is not saved", 3)
    return 1


def surroundings():
    return os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads(), Path.cwd()


def slow():
    for _ in range(6000):
        time.sleep(0.1)


def essence(study, storage, address=None):
    with Ledger.open(storage) as ledger:
        with preparation.prepared(study, None, address) as ready:
            loop.run(ready, ledger, Quiet(), {})
        return studies_small.essence(ledger, study.name)


def test_gives_the_trials_of_serial_bit_for_bit(tmp_path, executor):
    serial = essence(studies_small.study(), f"sqlite:///{tmp_path}/serial.db")
    study = studies_small.study(execution="ray", resources={"workers": 2})
    assert essence(study, f"sqlite:///{tmp_path}/ray.db") == serial
    assert executor.submit(double, 3).result() == 6, "who was connected before stays so"


def test_a_worker_that_dies_breaks_its_own_future_only(executor):
    broken, whole = executor.submit(die), executor.submit(double, 3)
    assert isinstance(broken.exception(), BrokenExecutor)
    assert whole.result() == 6
    for _ in range(4):
        assert executor.submit(double, 5).result() == 10


def test_an_own_exception_arrives_as_it_was_raised(executor):
    error = executor.submit(resolve, "no_such_module:x").exception()
    assert isinstance(error, ModuleNotFoundError)
    assert str(error) == "No module named 'no_such_module'"


def test_work_finds_the_folder_and_the_threads_of_who_sent_it(executor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert executor.submit(surroundings).result() == ("1", 1, tmp_path)


def test_what_a_worker_warns_of_is_said_here(executor, caplog):
    assert executor.submit(warn).result() == 1
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("hpo.storage.desk", "trial 3 is not saved")
    ]


def test_slots_are_told_apart_and_no_more_than_there_are(executor):
    first, second = executor.submit(time.sleep, 0.5), executor.alone(time.sleep, 0.5)
    assert [executor.place(future).slot for future in (first, second)] == [0, 1]
    assert executor.free == 0
    assert executor.alone(double, 1) is None
    with pytest.raises(RuntimeError, match="all 2 slots are busy"):
        executor.submit(double, 1)
    first.result()
    second.result()
    assert executor.free == 2


def test_closing_at_once_interrupts_the_work(executor):
    handler = signal.getsignal(signal.SIGTERM)
    other = ray(resources(workers=1))
    future = other.submit(slow)
    other.close(wait=False)
    other.close()
    assert isinstance(future.exception(timeout=0), BrokenExecutor)
    assert executor.submit(double, 2).result() == 4
    assert signal.getsignal(signal.SIGTERM) == handler


def test_no_node_with_a_card_is_one_line(executor):
    with pytest.raises(BadStudy, match=r"asks for cpus: 1 and gpus: 0\.5 on one node, and the nodes .* 2 CPUs and 0 G"):
        ray(resources(gpus=0.5))


def test_a_file_does_not_do_for_several_machines(tmp_path, executor):
    elsewhere = ray(resources())
    elsewhere.machines = 2
    with (
        Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger,
        preparation.prepared(studies_small.study(), None) as ready,
        pytest.raises(BadStorage, match=r"hpo\.db is a file, and trainings go to 2 machines, .*: give --storage postg"),
    ):
        preparation.store(replace(ready, executor=elsewhere), ledger, {})


def test_ray_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "hpo.execution.ray_cluster", raising=False)
    with pytest.raises(BadStudy, match=r"^execution: ray needs the package ray: pip install 'hpo\[ray\]'$"):
        importlib.import_module("hpo.execution.ray_cluster")


@pytest.mark.parametrize("address", ["127.0.0.2:9", "here:there", "nonsense"])
def test_no_cluster_at_the_address_is_one_line(tmp_path, address):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(studies_small.study().canonical()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [*COMMAND, "run", "small.yaml", "--ray", address]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"hpo: --ray {address}: no connection to a Ray cluster (")
    assert ended.stderr.endswith("): give the HOST:PORT that `ray start --head` printed, or local\n")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "hpo.db").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_the_trainings_and_they_go_on(tmp_path, sent):
    training = {"solver": {"name": "sgd", "momentum": 0.9}, "steps": 8000, "batch_size": 50}
    methods = [{"name": "random"}, {"name": "qmc"}]
    study = studies_small.study(
        methods=methods, seeds=[0], resources={"workers": 2}, training=training, budget={"trainings": 2}
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study.canonical()))
    storage = f"sqlite:///{tmp_path}/hpo.db"
    environment = {**os.environ, "HOME": str(tmp_path)}

    def started(*arguments):
        command = [*COMMAND, *arguments, "--ray", "local", "--storage", storage, "--quiet"]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)

    process = started("run", str(tmp_path / "small.yaml"))
    while process.poll() is None and count(tmp_path / "hpo.db", "hpo_trial WHERE state != 'running'") < 1:
        time.sleep(0.02)
    time.sleep(1.0)
    (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (130, "hpo: interrupted; finished trials are kept\n")
    assert count(tmp_path / "hpo.db", "hpo_lease") == 0
    assert count(tmp_path / "hpo.db", "hpo_checkpoint") >= 1
    last = started("resume", "small")
    _, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    assert not (tmp_path / ".ray").exists(), "no token is left behind"
    with Ledger.open(storage, create=False) as ledger:
        found = studies_small.essence(ledger, "small")
    alone = study.model_copy(update={"resources": resources()})
    assert found == essence(alone, f"sqlite:///{tmp_path}/unbroken.db")


def count(path, rows):
    """How many of such rows the database holds; 0 while there is none, or no table in it."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            return database.execute(f"SELECT count(*) FROM {rows}").fetchone()[0]
        except sqlite3.OperationalError:
            return 0
