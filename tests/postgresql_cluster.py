"""A PostgreSQL server of one's own, for as long as a test needs it.

    with Cluster() as cluster:
        cluster.url         # postgresql://hpo:…@127.0.0.1:PORT/postgres
        cluster.stop()      # as an administrator stops it: connections are closed, what is committed stays
        cluster.kill()      # as a machine that fails: kill -9, the next start recovers
        cluster.start()     # the same port, the same data

It listens on 127.0.0.1 and wants a password. Nothing is synced to the disk; a killed process loses nothing by that.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ACCOUNT = "postgres"
"""Whom the server runs as when the tests run as root: PostgreSQL refuses root."""

USER, PASSWORD = "hpo", "s3cret-in-the-url"
PATIENCE = 60.0
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "listen_addresses": "127.0.0.1",
}


def binaries() -> Path | None:
    """The folder with initdb and postgres: the one on PATH, else Debian's of the highest version."""
    on_path = shutil.which("initdb")
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    for folder in ([Path(on_path).resolve().parent] if on_path else []) + known:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def missing() -> str | None:
    """What keeps a server from being started here and what to do, None if nothing does."""
    if binaries() is None:
        return "there is no PostgreSQL server here: install it (Debian: apt-get install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'hpo[postgres]'"
    if os.geteuid() == 0 and not any(entry.pw_name == ACCOUNT for entry in pwd.getpwall()):
        return f"PostgreSQL does not run as root and there is no user {ACCOUNT!r}: run the tests as another user"
    return None


class Cluster:
    """A new cluster in a folder of its own, gone when the block ends. Raises RuntimeError if it does not start."""

    def __init__(self) -> None:
        found = binaries()
        if found is None:
            raise RuntimeError(missing())
        self._binaries = found
        self._folder = Path(tempfile.mkdtemp(prefix="hpo-pg-"))  # short: it has to hold the name of a socket
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    @property
    def url(self) -> str:
        """The URL of its database, with the password in it."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Returns when it answers; the processes of a killed one may take a moment to go."""
        assert self._process is None, "it runs already"
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"PostgreSQL does not start:\n{self.log}")
            if self._process is None or self._process.poll() is not None:
                self._process = self._launched()
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it without waiting for those who are connected."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stops it and deletes its folder."""
        self.stop()
        shutil.rmtree(self._folder)

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self._folder, secret):
                shutil.chown(path, ACCOUNT)
        command = [self._binaries / "initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=scram-sha-256"]
        command += [f"--username={USER}", f"--pwfile={secret}", "-D", self._folder / "data"]
        made = subprocess.run(_as_account(command), cwd=self._folder, capture_output=True, text=True, check=False)
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")

    def _launched(self) -> subprocess.Popen[bytes]:
        settings = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self._folder)}
        command = [self._binaries / "postgres", "-D", self._folder / "data"]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                _as_account(command),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; they stop the server when they have cleaned up
            )

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None


def _as_account(command: list[str | Path]) -> list[str | Path]:
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups", "--", *command]


def _version(binaries: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", binaries.parent.name))


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
