"""Where a call runs, for whoever shows it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Place(NamedTuple):
    """A slot, the number of its process on this machine (None if it is on another), and the names of its cards."""

    slot: int
    process: int | None
    cards: tuple[str, ...] = ()

    def memory(self, proc: Path = PROC) -> int | None:
        """Bytes of main memory the process holds (its resident set); None where the system does not tell."""
        try:
            status = (proc / str(self.process) / "status").read_text()
        except OSError:
            return None
        held = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
        return 1024 * int(held[0]) if held else None
