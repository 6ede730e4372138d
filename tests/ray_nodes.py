"""A Ray cluster of one's own on loopback, for as long as a test needs it.

    with Nodes() as nodes:
        nodes.address       # HOST:PORT, as `hpo run --ray` and RAY_ADDRESS take it
        nodes.workers(1)    # process ids of the second node's workers that are at work
        nodes.kill(1)       # as a machine that fails: kill -9 of all its processes

Each node has an address, a session and one core of its own. Its token is in the environment of whoever may connect.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 120.0
HOSTS = ("127.0.0.2", "127.0.0.3")
"""Ray takes 127.0.0.1 for the machine's other address."""

START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--num-gpus=0"]
START += ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
WORK = b"ray::call"
"""What a worker is called while it has work."""


class Nodes:
    """Raises RuntimeError if they do not come up."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hpo-ray-"))  # short: it has to hold the names of sockets
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"}
        self.address = f"{HOSTS[0]}:{_free_port(HOSTS[0])}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        try:
            port = self.address.rpartition(":")[2]
            head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
            self._start(HOSTS[0], *head)
            for host in HOSTS[1:]:
                self._start(host, f"--address={self.address}")
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    def workers(self, node: int) -> list[int]:
        """The workers of a node that are at work."""
        return [pid for pid in self._processes(node) if _read(pid, "cmdline").startswith(WORK)]

    def kill(self, node: int) -> None:
        """kill -9."""
        self._end(node)

    def remove(self) -> None:
        """Ends them and deletes their folder."""
        for node in range(len(self._nodes)):
            self._end(node)
        shutil.rmtree(self._folder)

    def _start(self, host: str, *options: str) -> None:
        """Returns when the node says that it has joined."""
        log = self._folder / f"{host}.log"
        with log.open("wb") as out:
            command = [*START, f"--node-ip-address={host}", *options]
            node = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        self._nodes.append(node)
        until = time.monotonic() + PATIENCE
        while "Ray runtime started" not in log.read_text():
            if node.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"a Ray node does not start:\n{log.read_text()}")
            time.sleep(0.1)

    def _end(self, node: int) -> None:
        """Until none of its processes is left: one that is killed may have started another."""
        while processes := list(self._processes(node)):
            for pid in processes:
                os.kill(pid, signal.SIGKILL)
            self._nodes[node].wait(PATIENCE)
            time.sleep(0.05)

    def _processes(self, node: int) -> Iterator[int]:
        """All of a node's session that live."""
        for folder in Path("/proc").glob("[0-9]*"):
            state = _read(int(folder.name), "stat").rpartition(b")")[2].split()
            if state and state[0] != b"Z" and int(state[3]) == self._nodes[node].pid:
                yield int(folder.name)


def _read(pid: int, name: str) -> bytes:
    """Of a process that may be gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _free_port(host: str) -> int:
    with socket.socket() as taken:
        taken.bind((host, 0))
        return taken.getsockname()[1]
