"""What can go wrong, as one tree.

    HpoError
    ├── BadInput              the user's file, data, option or database: exit code 2
    │   ├── BadStudy          the study file: an unknown key, a wrong type, low >= high …
    │   ├── BadData           a data set that is missing, malformed or too small
    │   └── BadStorage        a database that is locked, read-only, newer, or not ours
    └── StudyFailed           every trial of an arm failed: exit code 1

A message is one line: what was given, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HpoError(Exception):
    """Any failure hpo explains by itself; its text is meant for the user."""


class BadInput(HpoError):
    """Something the user gave cannot be used."""


class BadStudy(BadInput):
    """The study file asks for something that does not exist or does not fit."""


class BadData(BadInput):
    """The data set is missing, malformed or too small for what was asked."""


class BadStorage(BadInput):
    """The database cannot be used."""


class StudyFailed(HpoError):
    """A study ended without a single finished trial in one of its arms."""


def unknown(what: str, given: str, allowed: Iterable[str]) -> str:
    """The sentence for a name that does not exist: it lists the valid names and the nearest one."""
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {given!r}: use one of {', '.join(names) or '(none)'}{hint}"
