"""One part of a diagnosis: timed, kept apart from the others, on as many rows as it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo.diagnostics.findings import Finding
from hpo.problems.imported import said
from hpo.problems.problem import Problem

T = TypeVar("T")

WORK = 4e11
"""Floating-point operations of a part, where fewer rows make them fewer: 5 to 15 s of one thread."""


class LeftOut(Exception):
    """A figure that does not exist for this study; the text says why."""


def part(find: Callable[[], T]) -> Finding[T]:
    """What it finds, timed; whatever it raises (it may be the user's code) is the reason why it found nothing."""
    began = time.perf_counter()
    try:
        found, reason = find(), ""
    except LeftOut as error:
        found, reason = None, str(error)
    except (Exception, SystemExit) as error:
        found, reason = None, said(error)
    return Finding(found, time.perf_counter() - began, reason)


def affordable(problem: Problem, passes: float) -> int:
    """How many rows may go forward so often."""
    few = problem.train.inputs[:4]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        problem.network.forward(problem.weights, few)
    return max(1, int(WORK * len(few) / (passes * max(1, counter.get_total_flops()))))


def outputs(problem: Problem) -> int:
    """How many numbers the network gives for a row."""
    return len(problem.classes) or problem.train.targets.shape[1]
