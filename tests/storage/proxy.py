"""The network between a run and its database, on the loopback, which a test can cut.

with Proxy(5432) as proxy:
    proxy.port            # to connect to
    proxy.freeze()        # nothing passes, and nobody is told
    proxy.cut()           # connections are reset, new ones too
    proxy.mend()
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from types import TracebackType
from typing import Self

LOOK = 0.02
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing is a reset."""


class Proxy:
    """Passes bytes between those who connect and a port of this machine, until the block ends."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._flows, self._cut, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._flows.set()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def freeze(self) -> None:
        self._flows.clear()

    def cut(self) -> None:
        self._cut.set()

    def mend(self) -> None:
        self._cut.clear()
        self._flows.set()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if self._flows.is_set() and select.select([self._listening], [], [], LOOK)[0]:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._threads.append(threading.Thread(target=self._pass, args=(near, far)))
                self._threads[-1].start()

    def _pass(self, *ends: socket.socket) -> None:
        with ends[0], ends[1]:
            while not self._ended.is_set() and not self._cut.is_set():
                if not self._flows.wait(LOOK):
                    continue
                for ready in select.select(ends, [], [], LOOK)[0]:
                    try:
                        said = ready.recv(65536)
                        ends[ends.index(ready) - 1].sendall(said)
                    except OSError:
                        return
                    if not said:
                        return
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
