"""One process at a time runs a study; the next one takes over from a dead one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.failures import BadStorage
from hpo.spec import Study
from hpo.storage.holder import Holder, this_process
from hpo.storage.ledger import Ledger
from hpo.storage.tables import StudyRow

HOLD = """
import sys
from hpo.storage.ledger import Ledger
with Ledger.open(sys.argv[1]) as ledger:
    ledger.hold("digits")
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(url: str) -> subprocess.Popen[str]:
    """A real process that holds the study until its input ends or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_study_being_run_is_refused_and_a_killed_process_is_taken_over(begun: Ledger, url: str, study: Study) -> None:
    with holding(url) as other:
        said = f"study 'digits' is being run by process {other.pid}: wait for it or stop it"
        with pytest.raises(BadStorage, match=said):
            begun.hold("digits")
        with pytest.raises(BadStorage, match=said):
            begun.begin(study, {})
        begun.let_go("digits")
        holder = begun.study("digits").holder
        assert holder is not None
        assert holder.pid == other.pid
        assert holder.alive()
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped: a zombie
        assert not holder.alive()
        begun.hold("digits")
    assert begun.study("digits").holder == this_process()


def test_the_holder_may_hold_again_and_lets_go(begun: Ledger) -> None:
    begun.hold("digits")
    begun.hold("digits")
    assert begun.studies()[0].holder == this_process()
    begun.let_go("digits")
    begun.let_go("digits")
    assert begun.study("digits").holder is None


def test_a_number_given_out_again_is_not_the_holder(begun: Ledger) -> None:
    mine = this_process()
    with begun._database.write() as session:
        session.query(StudyRow).one().holder = mine._replace(started=-1)._asdict()
    begun.hold("digits")
    assert begun.study("digits").holder == mine


def test_a_holder_on_another_machine_is_believed(begun: Ledger) -> None:
    with begun._database.write() as session:
        session.query(StudyRow).one().holder = Holder("elsewhere", 1, 1)._asdict()
    with pytest.raises(BadStorage) as caught:
        begun.hold("digits")
    said = str(caught.value)
    assert "run by process 1 on elsewhere: stop it there; if that machine is gone: " in said
    with begun._database.write() as session:
        session.connection().exec_driver_sql(said.partition("is gone: ")[2])  # the remedy works
    begun.hold("digits")


def test_without_proc_the_number_must_do(tmp_path: Path) -> None:
    mine = this_process(tmp_path)
    assert mine == Holder(socket.gethostname(), os.getpid(), None)
    assert mine.alive(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not Holder(socket.gethostname(), ended.pid, None).alive(tmp_path)
    assert not Holder(socket.gethostname(), ended.pid, None).alive()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may signal every process")
def test_a_process_of_somebody_else_is_alive(tmp_path: Path) -> None:
    assert Holder(socket.gethostname(), 1, None).alive(tmp_path)
