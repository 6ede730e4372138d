"""What every executor keeps: a new entry in `hpo.registry.EXECUTORS` is tested by being there."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, wait
from pathlib import Path

import pytest
import torch

from hpo.execution.executor import choose
from hpo.execution.processes import Processes
from hpo.registry import EXECUTORS, resolve
from hpo.resources import Resources


def resources(**given):
    return Resources.model_validate(given)


def double(x):
    return 2 * x


def fail(reason):
    raise ValueError(reason)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def surroundings():
    return os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads(), signal.getsignal(signal.SIGINT)


@pytest.fixture(params=sorted(EXECUTORS))
def executor(request):
    if request.param == "ray":
        pytest.importorskip("ray", reason="ray is not installed: pip install 'hpo[ray]'")
    made = resolve(EXECUTORS[request.param])(resources(workers=2))
    yield made
    made.close()


def test_returns_results_in_their_own_futures(executor):
    found = []
    for start in range(0, 6, executor.slots):
        futures = [executor.submit(double, x) for x in range(start, start + executor.slots)]
        wait(futures)
        found += [f.result() for f in futures]
    assert found == [0, 2, 4, 6, 8, 10]


def test_an_exception_travels_and_the_slot_lives_on(executor):
    for _ in range(executor.slots + 1):
        with pytest.raises(ValueError, match="so it is"):
            executor.submit(fail, "so it is").result()
    assert executor.submit(double, 4).result() == 8


def test_a_call_is_in_a_slot_until_it_is_done(executor):
    assert executor.free == executor.slots
    future = executor.submit(double, 1)
    place = executor.place(future)
    assert 0 <= place.slot < executor.slots
    assert place.process is None or alive(place.process)
    future.result()
    assert executor.free == executor.slots


def test_a_call_can_be_alone(executor):
    busy = executor.submit(time.sleep, 0.2)
    while (future := executor.alone(double, 4)) is None:
        wait([busy])
    assert future.result() == 8
    busy.result()
    assert executor.free == executor.slots
    assert executor.submit(double, 5).result() == 10


def test_may_be_closed_twice(executor):
    executor.close()
    executor.close(wait=False)
    assert executor.slots >= 1


def test_a_worker_that_dies_breaks_its_own_future_only():
    processes = Processes(resources(workers=2))
    try:
        broken, whole = processes.submit(die), processes.submit(double, 3)
        assert whole.result() == 6
        assert isinstance(broken.exception(), BrokenExecutor)
        for _ in range(4):
            assert processes.submit(double, 5).result() == 10
    finally:
        processes.close()


def test_a_worker_that_dies_idle_is_replaced():
    processes = Processes(resources(workers=1))
    try:
        pid = processes.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.01)
        for _ in range(3):
            with contextlib.suppress(BrokenExecutor):  # the pool may notice only now
                assert processes.submit(double, 2).result() == 4
        assert processes.submit(double, 3).result() == 6
    finally:
        processes.close()


def test_workers_have_one_thread_and_leave_interrupts_to_the_parent():
    processes = Processes(resources(workers=1))
    try:
        assert processes.submit(surroundings).result() == ("1", 1, signal.SIG_IGN)
    finally:
        processes.close()


def test_more_work_than_slots_is_a_fault_of_the_caller():
    processes = Processes(resources(workers=1))
    try:
        processes.submit(time.sleep, 0.2)
        with pytest.raises(RuntimeError, match="all 1 slots are busy"):
            processes.submit(double, 1)
    finally:
        processes.close()


def test_closing_at_once_does_not_wait_for_the_work():
    processes = Processes(resources(workers=1))
    future = processes.submit(time.sleep, 600)
    while not future.running():
        time.sleep(0.01)
    processes.close(wait=False)
    assert isinstance(future.exception(timeout=60), BrokenExecutor) or future.cancelled()


ORPHAN = """
import os, time
from hpo.execution.processes import Processes
from hpo.resources import Resources

if __name__ == "__main__":
    processes = Processes(Resources.model_validate({"workers": 2}))
    pids = [processes.submit(os.getpid).result() for _ in range(2)]
    print(*pids, flush=True)
    processes.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(ORPHAN)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        parent.kill()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_auto_takes_processes_for_several_workers_or_a_gpu():
    assert choose("auto", resources()) == "serial"
    assert choose("auto", resources(workers=2)) == "processes"
    assert choose("auto", resources(gpus=0.5)) == "processes"
    assert choose("serial", resources(workers=2)) == "serial"
