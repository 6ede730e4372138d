"""Which process runs a study: known by its machine, its number and the moment it started.

A number alone is not enough, the system gives it out again; `started` tells a successor from the process meant.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Process(NamedTuple):
    """A process. `started` is in clock ticks since the machine started, None where the system does not tell.

    `machine`: since when it runs and which processes can be seen on it: containers may share a name, and see others.
    """

    host: str
    machine: str
    pid: int
    started: int | None

    @property
    def here(self) -> bool:
        """Whether it is, or was, on this machine."""
        return (self.host, self.machine) == (socket.gethostname(), machine())

    def alive(self, proc: Path = PROC) -> bool:
        """Whether it still runs. One on another machine counts as alive: it cannot be seen from here."""
        if not self.here:
            return True
        if not (proc / "self").exists():
            return _answers(self.pid)
        started = _started(self.pid, proc)
        return started is not None and self.started in (None, started)

    def __str__(self) -> str:
        return f"process {self.pid}" + ("" if self.here else f" on {self.host}")


def this_process(proc: Path = PROC) -> Process:
    """The process that asks."""
    return Process(socket.gethostname(), machine(), os.getpid(), _started(os.getpid(), proc))


@cache
def machine(proc: Path = PROC) -> str:
    """This start of this machine, and the space of its process numbers; empty where the system does not tell."""
    try:
        return f"{(proc / 'sys/kernel/random/boot_id').read_text().strip()} {(proc / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int, proc: Path) -> int | None:
    """When the process started; None if there is no such process, or only what is left of one (a zombie)."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses, with any characters; the state is the third, the start the 22nd.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
