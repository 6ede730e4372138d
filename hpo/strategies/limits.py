"""What the options of a method may be: each function returns the value it was given, or says what was expected.

limits.number("rate", -1, above=0)        →  BadStudy: rate: -1 must be a finite number above 0
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from hpo.failures import BadStudy, unknown


def number(
    name: str, value: object, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> float:
    """A finite number, `least` or more, or strictly `above` or `below`. Raises BadStudy naming the option."""
    given = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    kept = (
        math.isfinite(given)
        and (least is None or given >= least)
        and (above is None or given > above)
        and (below is None or given < below)
    )
    if not kept:
        ends = {"at least": least, "above": above, "below": below}
        wanted = " and ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)
        raise BadStudy(f"{name}: {value!r} must be a finite number {wanted}")
    return float(given)


def whole(name: str, value: object, *, least: int) -> int:
    """A whole number, `least` or more. Raises BadStudy naming the option."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadStudy(f"{name}: {value!r} must be a whole number, {least} or more")
    return value


def switch(name: str, value: object) -> bool:
    """True or False. Raises BadStudy naming the option."""
    if not isinstance(value, bool):
        raise BadStudy(f"{name}: {value!r} must be true or false")
    return value


def choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """One of the allowed words. Raises BadStudy naming the option and the nearest word."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise BadStudy(unknown(name, str(value), names))
    return value
