"""How numbers are written for people."""

from __future__ import annotations

NONE = "–"


def figure(value: float | None) -> str:
    """A loss, to four digits."""
    return NONE if value is None else f"{value:#.4g}"


def count(value: float) -> str:
    """A number of evaluations: 950, 18.2k, 3.1M."""
    if value >= 1e6:
        return f"{value / 1e6:.1f}M"
    if value >= 1e4:
        return f"{value / 1e3:.1f}k"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """41 ms, 12.3 s, 4.5 min, 3.2 h."""
    if 0 < seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(given: float) -> str:
    """Bytes: 310 KiB, 12.3 MiB, 1.5 GiB."""
    for unit in ("KiB", "MiB"):
        given /= 1024
        if given < 1000:
            return f"{given:.0f} {unit}" if given >= 100 else f"{given:.1f} {unit}"
    return f"{given / 1024:.1f} GiB"


def noun(n: float, unit: str) -> str:
    """The unit of a budget as it is read after that number: gradient evaluations, but training after 1."""
    said = unit.replace("_", " ")
    return said.removesuffix("s") if n == 1 else said


def seeds(n: int) -> str:
    """1 seed, 5 seeds."""
    return "1 seed" if n == 1 else f"{n} seeds"
