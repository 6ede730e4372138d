"""Which process it is: its number alone is not enough."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.storage.process import Process, machine, this_process


def test_a_killed_process_is_not_alive_nor_is_a_zombie() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = int((Path("/proc") / str(other.pid) / "stat").read_text().rpartition(")")[2].split()[19])
        process = Process(socket.gethostname(), machine(), other.pid, started)
        assert process.alive()
        assert not process._replace(started=started - 1).alive()  # an earlier one of that number
        assert process != this_process()
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped: a zombie
        assert not process.alive()


def test_one_on_another_machine_is_believed_and_named_with_it() -> None:
    far = Process("elsewhere", machine(), 1, 1)
    assert far.alive()
    assert Process(socket.gethostname(), "a container of that name", 1, 1).alive(), "its processes cannot be seen here"
    assert (str(far), str(this_process())) == ("process 1 on elsewhere", f"process {os.getpid()}")


def test_without_proc_the_number_must_do(tmp_path: Path) -> None:
    mine = this_process(tmp_path)
    assert mine == Process(socket.gethostname(), machine(), os.getpid(), None)
    assert mine.alive(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not Process(socket.gethostname(), machine(), ended.pid, None).alive(tmp_path)
    assert not Process(socket.gethostname(), machine(), ended.pid, None).alive()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may signal every process")
def test_a_process_of_somebody_else_is_alive(tmp_path: Path) -> None:
    assert Process(socket.gethostname(), machine(), 1, None).alive(tmp_path)
