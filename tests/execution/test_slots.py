"""Slots of worker processes: their cards, who is alone on one, where a call runs."""

import contextlib
import os
import time
from concurrent.futures import wait

import pytest

from hpo.execution import worker
from hpo.execution.batched import Batched
from hpo.execution.place import Place
from hpo.execution.processes import Processes
from hpo.failures import BadStudy
from hpo.resources import Resources

TWO = "0, GPU-aaaa, 81920, 80896\n1, GPU-bbbb, 40960, 20480\n"


@contextlib.contextmanager
def slots(**given):
    processes = Processes(Resources.model_validate(given))
    try:
        yield processes
    finally:
        processes.close()


def cards():
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def until(path):
    while not path.exists():
        time.sleep(0.01)
    return os.getpid()


def test_every_worker_sees_its_own_cards(smi):
    smi(TWO)
    with slots(workers=3, gpus=0.5, gpu_memory=15) as processes:
        futures = [processes.submit(cards) for _ in range(3)]
        places = [processes.place(future) for future in futures]
        wait(futures)
        assert [future.result()[1] for future in futures] == ["GPU-aaaa", "GPU-bbbb", "GPU-aaaa"]
        assert places == [Place(slot, future.result()[0], (future.result()[1],)) for slot, future in enumerate(futures)]


def test_whole_cards_are_seen_together(smi):
    smi(TWO)
    with slots(gpus=2) as processes:
        assert processes.submit(cards).result()[1] == "GPU-aaaa,GPU-bbbb"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpus": 0.5, "workers": 5}, r"5 workers of 0\.5 GPUs need more than the 2 cards here: use at most 4 workers"),
        (
            {"gpus": 0.25, "gpu_memory": 79.5},
            r"gpu_memory 79\.5: no card has so much free \(79\.0 of 80\.0 GiB of card",
        ),
    ],
)
def test_more_than_there_is_is_one_line(smi, given, message):
    smi(TWO)
    with pytest.raises(BadStudy, match=message) as caught:
        Processes(Resources.model_validate(given))
    assert "\n" not in str(caught.value)


def test_no_gpu_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BadStudy, match=r"resources\.gpus 0\.5: no NVIDIA card is visible here; set gpus: 0"):
        Processes(Resources.model_validate({"gpus": 0.5}))


def test_a_call_that_wants_to_be_alone_waits_for_its_neighbours_and_they_for_it(tmp_path):
    with slots(workers=2) as processes:
        wait(futures := [processes.submit(os.getpid) for _ in range(2)])
        before = {future.result() for future in futures}
        neighbour = processes.submit(until, tmp_path / "neighbour")
        assert processes.free == 1
        assert processes.alone(until, tmp_path / "alone") is None
        assert processes.free == 0, "nothing new may come between"
        with pytest.raises(RuntimeError, match="busy"):
            processes.submit(os.getpid)
        assert processes.alone(until, tmp_path / "alone") is None
        (tmp_path / "neighbour").touch()
        neighbour.result()
        alone = processes.alone(until, tmp_path / "alone")
        assert alone is not None
        assert (processes.free, processes.alone(os.getpid)) == (0, None)
        (tmp_path / "alone").touch()
        alone.result()
        assert processes.free == 2
        wait(futures := [processes.submit(os.getpid) for _ in range(2)])
        after = {future.result() for future in futures}
        assert before & after == {alone.result()}, "the other worker has ended: it held memory"


def test_only_the_neighbours_on_the_same_card_wait(smi, tmp_path):
    smi(TWO)
    with slots(workers=4, gpus=0.5) as processes:
        for number in range(3):
            processes.submit(until, tmp_path / "neighbour")
            assert processes.free == 3 - number
        assert processes.alone(cards) is None
        assert processes.free == 0
        (tmp_path / "neighbour").touch()
        while (alone := processes.alone(until, tmp_path / "alone")) is None:
            time.sleep(0.01)
        while processes.free < 2:
            time.sleep(0.01)
        elsewhere = [processes.submit(cards) for _ in range(2)]
        here = processes.place(alone).cards
        assert all(future.result()[1] not in here for future in elsewhere)
        (tmp_path / "alone").touch()
        alone.result()
        assert processes.free == 4


def test_a_place_tells_what_its_process_holds(tmp_path):
    with slots(workers=1) as processes:
        future = processes.submit(os.getpid)
        place = processes.place(future)
        held = place.memory()
        assert place == Place(0, future.result())
        assert held is not None
        assert 2**20 < held < 2**36
        assert place.memory(tmp_path) is None
        with pytest.raises(ValueError, match="not in list"):
            processes.place(future.__class__())
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tkernel thread\n")
    assert Place(0, 7).memory(tmp_path) is None


def test_more_cores_than_there_are_is_said(caplog):
    cores = len(os.sched_getaffinity(0))
    with slots(workers=2, cpus=cores):
        assert f"2 workers of {cores} CPUs share {cores} cores" in caplog.text
    caplog.clear()
    with slots(workers=1, cpus=1):
        assert caplog.text == ""


def test_what_waits_for_company_waits_for_a_call_that_is_alone(tmp_path):
    batched = Batched(Resources.model_validate({"workers": 2}), width=3)
    try:
        neighbour = batched.submit(until, tmp_path / "neighbour")
        waiting = batched.submit(worker.evaluate, None, None)
        assert batched.alone(os.getpid) is None
        assert (list(batched.start()), batched.place(waiting)) == ([], None), "its slot is kept"
        (tmp_path / "neighbour").touch()
        neighbour.result()
        alone = batched.alone(os.getpid)
        assert alone is not None
        alone.result()
        assert list(batched.start()) == [waiting]
        assert waiting.exception() is not None, "nothing is no trial"
    finally:
        batched.close()
