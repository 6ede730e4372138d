"""Trials as Ray tasks: on this machine, or on all nodes of a Ray cluster that runs already.

Ray places each trial (CPUs, cards or a share of one) and says when its worker or its node is gone; it never tries one
again. That is the loop's, as with every executor: it submits the trial anew, and it goes on from its checkpoint in the
database, wherever Ray puts it. Every node needs this hpo, the data and the study's modules at the same paths.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import pickle
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hpo.execution.executor import P, T
from hpo.execution.place import Place
from hpo.execution.processes import GRACE, THREADS
from hpo.execution.ray_task import Answer, call
from hpo.failures import BadInput, BadStudy
from hpo.interruption import deferred
from hpo.resources import Resources

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise BadStudy("execution: ray needs the package ray: pip install 'hpo[ray]'") from error

LOCAL = "local"
"""The address that starts a cluster on this machine, as large as the study asks for, and ends it with the study."""

PATIENCE = 10.0
"""Seconds in which the address of a cluster must answer; Ray itself would try for minutes."""


class _Submitted(NamedTuple):
    """The future that the loop waits for, and the task that Ray knows."""

    future: Future[Any]
    task: ray.ObjectRef[Answer]


class Ray:
    """`resources.workers` trials under way, each with its `cpus` and `gpus`; those that have no room wait in Ray.

    `address`: HOST:PORT of a cluster, `auto` for the one of this machine, `local`; if not given RAY_ADDRESS, else
    `local`. In a process that is connected to Ray already it is that connection, which stays. `machines`: how many the
    nodes are on.

    Raises BadInput where no cluster answers, BadStudy when no node of it could ever serve a trial.
    """

    width = 1

    def __init__(self, resources: Resources, address: str | None = None) -> None:
        self.slots = resources.workers
        self._gpus = resources.gpus
        self._threads: dict[str, str] = dict.fromkeys(THREADS, str(resources.cpus))
        self._submitted: list[_Submitted | None] = [None] * self.slots
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(address or os.environ.get("RAY_ADDRESS") or LOCAL, resources)
        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            _check(resources, [node["Resources"] for node in nodes])
            self.machines = len({_machine(node["NodeManagerAddress"]) for node in nodes})
            self._call = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(call)
        except BaseException:
            self.close(wait=False)
            raise

    @property
    def free(self) -> int:
        """How many calls may be submitted now."""
        return len(self._free())

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Give it to the cluster; raises RuntimeError when all slots are busy."""
        return self._submit(self._gpus, function, *args, **kwargs)

    def start(self) -> Sequence[Future[Any]]:
        """Nothing to do: what is submitted runs."""
        return ()

    def alone(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T] | None:
        """Run it on a card of its own, as soon as Ray has one; None while all slots are busy."""
        if not self.free:
            return None
        return self._submit(max(1.0, self._gpus) if self._gpus else 0.0, function, *args, **kwargs)

    def place(self, future: Future[Any]) -> Place:
        """The slot of a call that is under way; its process and cards are Ray's to know. Raises ValueError."""
        return Place([work and work.future for work in self._submitted].index(future), None)

    def forget(self) -> None:
        """Nothing waits here, and what waits in Ray is refused when it has run."""

    def close(self, wait: bool = True) -> None:
        """End all workers: after their work, or, given a moment to save it, at once."""
        running = [work for work in self._submitted if work is not None and not work.future.done()]
        self._submitted = [None] * self.slots
        try:
            if not wait:
                for work in running:
                    ray.cancel(work.task)  # KeyboardInterrupt there
                futures.wait([work.future for work in running], GRACE)
                for work in running:
                    if not work.future.done():
                        ray.cancel(work.task, force=True)
            futures.wait([work.future for work in running], None if wait else GRACE)
        finally:
            if self._ours:
                ray.shutdown()

    def _free(self) -> list[int]:
        return [slot for slot, work in enumerate(self._submitted) if work is None or work.future.done()]

    def _submit(self, gpus: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        free = self._free()
        if not free:
            raise RuntimeError(f"all {self.slots} slots are busy: wait for a future before submitting more")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        work = pickle.dumps((function, args, kwargs))
        with deferred():  # a task that is not known here could not be cancelled
            task = self._call.options(num_gpus=gpus).remote(self._threads, str(Path.cwd()), sys.path, work)
            self._submitted[free[0]] = _Submitted(future, task)
        task.future().add_done_callback(partial(_hand_over, future))
        return future


def _hand_over(future: Future[Any], answered: Future[Answer]) -> None:
    """The task's result or its own exception; whatever else kept Ray from an answer broke its worker."""
    error = answered.exception()
    if error is None:
        answer = answered.result()
        for warning in answer.warnings:
            logging.getLogger(warning.name).handle(warning)
        future.set_result(answer.result)
    elif isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
        future.set_exception(error.cause)
    else:
        future.set_exception(BrokenExecutor(_said(error)))


def _said(error: BaseException) -> str:
    """The first line of what may be a page."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _connect(address: str, resources: Resources) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home folder
        quiet |= {"num_cpus": resources.workers * resources.cpus, "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)  # Ray puts its own there
    try:
        if ":" in address and "//" not in address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        with deferred():  # a cluster that has started by half would stay
            ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise BadInput(
            f"--ray {address}: no connection to a Ray cluster ({_said(error)}): "
            "give the HOST:PORT that `ray start --head` printed, or local"
        ) from error
    finally:
        if before is not None and signal.getsignal(signal.SIGTERM) != before:
            signal.signal(signal.SIGTERM, before)


def _check(resources: Resources, nodes: list[dict[str, float]]) -> None:
    """Raises BadStudy if no node has room for a trial."""
    rooms = sorted({(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes})
    if not any(resources.cpus <= cpus and resources.gpus <= gpus for cpus, gpus in rooms):
        there = ", ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in rooms)
        raise BadStudy(
            f"resources: a trial asks for cpus: {resources.cpus} and gpus: {resources.gpus:g} on one node, "
            f"and the nodes of the Ray cluster have {there}: ask for less, or add a node"
        )


def _machine(address: str) -> str:
    """Loopback addresses are one machine."""
    return "" if ipaddress.ip_address(address).is_loopback else address
