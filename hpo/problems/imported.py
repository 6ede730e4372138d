"""Things of the user's own, by import path `package.module:function`; the current folder can be imported from."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpo.failures import BadStudy, unknown


def imported(key: str, path: str) -> Callable[..., Any]:
    """The callable at `path`; `key` is where the study file names it.

    Raises BadStudy: no such module, a module that fails when imported, no such name in it, not a callable.
    """
    name, _, attribute = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: a file called random.py must not hide the library's
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = "" if error.name == name else f" ({error})"
        raise BadStudy(
            f"{key}: no module {name!r}{missing} for {path!r}: give package.module:function, "
            f"importable from {here} or installed"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise BadStudy(f"{key}: importing {name!r} fails: {said(error)}: correct it") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        offered = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise BadStudy(f"{key}: {path!r}: {unknown(f'function of {name}', attribute, offered)}")
    return found


def called(key: str, path: str, *arguments: object) -> Any:
    """What the callable at `path` returns. Raises BadStudy where `imported` does and where the call fails."""
    function = imported(key, path)
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        given = ", ".join(repr(argument) for argument in arguments)
        raise BadStudy(f"{key}: {path}({given}) fails: {said(error)}: correct it") from error


def said(error: BaseException) -> str:
    """The error's type and message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
