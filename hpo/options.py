"""A method's options are its constructor's keyword-only arguments; the study file is checked against them here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from hpo.failures import BadStudy, unknown


def names(constructor: Callable[..., Any]) -> frozenset[str]:
    """The options a constructor takes."""
    parameters = inspect.signature(constructor).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def checked(
    constructor: Callable[..., Any],
    given: Mapping[str, Any],
    key: str,
    also: Collection[str] = (),
) -> dict[str, Any]:
    """`given` as the annotated types have it: a list as a tuple, a whole number as a float.

    Raises BadStudy naming `key.option` for an unknown name or a wrong type. `also` names options checked elsewhere,
    which the message lists too.
    """
    allowed = names(constructor)
    hints = get_type_hints(inspect.unwrap(getattr(constructor, "__init__", constructor)))
    converted = {}
    for name, value in given.items():
        if name not in allowed:
            raise BadStudy(f"{key}.{name}: {unknown('option', name, allowed | set(also))}")
        try:
            converted[name] = TypeAdapter(hints[name]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise BadStudy(f"{key}.{name}: {fault['msg'].lower()}, not {value!r}") from error
    return converted
