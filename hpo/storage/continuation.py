"""Whether a study file may be stored, or continue the study stored under its name; if not, why, key by key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from hpo.failures import BadStudy
from hpo.spec import Study

ABSENT = "(absent)"


def check(stored: Study, given: Study) -> None:
    """Seeds may be added, the budget and the resources may change; problem, training, space and methods may not.

    A budget smaller than what was spent is no fault: nothing more runs. Raises BadStudy with every difference.
    """
    found = differences(stored.identity(), given.identity())
    if list(stored.space) != list(given.space) and not found:
        # The order decides which coordinate is which, so another order would be another search.
        found = [f"space: the order was {', '.join(stored.space)}, is {', '.join(given.space)}"]
    gone = [seed for seed in stored.seeds if seed not in given.seeds]
    if gone:
        found.append(f"seeds: was {list(stored.seeds)}, is {list(given.seeds)} (seeds may only be added)")
    if found:
        changed = "; ".join(found)
        raise BadStudy(
            f"study {given.name!r} exists and differs: {changed}; give another name, or branch with --as NAME"
        )


def check_finite(study: Study) -> None:
    """Raises BadStudy naming a key whose number cannot be written as JSON (infinite, or not a number)."""
    for key, value in _numbers(study.model_dump()):
        if not math.isfinite(value):
            raise BadStudy(f"study {study.name!r}: {key} is {value}: give a finite number")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield key, value
    entries = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    )
    for name, entry in entries:
        yield from _numbers(entry, f"{key}.{name}" if key else str(name))


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """One line per leaf: `space.l2.low: was 1e-06, is 1e-05`; named entries of a list are told apart by name."""
    before, after = _entries(old), _entries(new)
    if before is None or after is None:
        return [] if old == new else [f"{key}: was {_shown(old)}, is {_shown(new)}"]
    found = []
    for name in dict.fromkeys([*before, *after]):
        path = f"{key}.{name}" if key else name
        found += differences(before.get(name, ABSENT), after.get(name, ABSENT), path)
    return found


def _entries(value: Any) -> Mapping[str, Any] | None:
    """What can be compared entry by entry: a mapping, or a list whose entries have names of their own."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        return {_title(one): one for one in value}
    return None


def _title(entry: Mapping[str, Any]) -> str:
    """As `hpo.choices.Method.title`."""
    parts = entry["name"], entry.get("per"), (entry.get("pruner") or {}).get("name")
    return entry.get("label") or "-".join(part for part in parts if part)


def _shown(value: Any) -> str:
    if value is ABSENT:
        return ABSENT
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_shown(v)}" for k, v in value.items() if v is not None) + "}"
    return repr(value) if isinstance(value, list) else str(value)
