"""The NVIDIA cards this process may use, found without touching CUDA: a process that has touched it cannot be forked,
and takes hundreds of MB of a card for nothing.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from math import inf
from pathlib import Path
from typing import NamedTuple

from hpo.execution.packing import Card

log = logging.getLogger(__name__)

QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits")

PATIENCE = 30.0
"""Seconds nvidia-smi may take: it is slow where the driver is not loaded all the time."""

DRIVER = Path("/proc/driver/nvidia/gpus")


class _Row(NamedTuple):
    """A card as nvidia-smi has it; GiB."""

    number: str
    uuid: str
    total: float
    free: float


def visible() -> list[Card]:
    """The cards, in the order in which CUDA counts them.

    CUDA_VISIBLE_DEVICES may name them by number, by UUID or its beginning, or parts of them (MIG-…); as in CUDA, the
    list ends at the first name that is none. Without it, all there are. Of parts the memory is not known, and without
    nvidia-smi of nothing. Cost: one call of nvidia-smi, 0.02 to 2 s.
    """
    rows = _rows()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        if rows is not None:
            return [Card(row.uuid, row.total, row.free) for row in rows]
        return [Card(str(i)) for i, _ in enumerate(sorted(DRIVER.glob("*")))]
    found: list[Card] = []
    for name in (part.strip() for part in chosen.split(",")):
        known = _known(name, rows)
        if known is None or name in {card.name for card in found}:
            break
        found.append(known)
    return found


def _known(name: str, rows: list[_Row] | None) -> Card | None:
    """The card of that name; None if the name is none, or there is no such card."""
    if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name):
        return None
    if rows is None or name.startswith("MIG-"):
        return Card(name)
    row = next((row for row in rows if row.number == name or row.uuid.startswith(name)), None)
    return None if row is None else Card(name, row.total, row.free)


def _rows() -> list[_Row] | None:
    """What nvidia-smi says; None if it is not there or does not work."""
    try:
        said = subprocess.run(QUERY, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    except FileNotFoundError:
        return None
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("nvidia-smi does not say what the cards have (%s): their memory is not checked", error)
        return None
    fields = [[field.strip() for field in line.split(",")] for line in said.splitlines() if line.count(",") == 3]
    return [_Row(number, uuid, _gib(total), _gib(free)) for number, uuid, total, free in fields]


def _gib(mebibytes: str) -> float:
    """Infinite where the card has no memory of its own, and so no figure."""
    return int(mebibytes) / 1024 if mebibytes.isdecimal() else inf
