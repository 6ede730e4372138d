"""Reading a study file: YAML in, a `Study` out, every fault on a line of its own that begins with its key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from hpo.dimension import Dimension
from hpo.failures import BadStudy, unknown
from hpo.resources import Resources
from hpo.spec import Budget, Perceptron, Problem, Split, Study, Training


def load(path: str | Path) -> Study:
    """The study in a YAML file. Raises BadStudy, one line per fault, each beginning with its key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadStudy(
            f"{path}: cannot be read ({error}); give the path of a study file, or make one with hpo init"
        ) from error
    return parse(text, str(path))


def parse(text: str, source: str = "study") -> Study:
    """The study in a YAML text; `source` names it in messages. Raises BadStudy."""
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadStudy(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadStudy(f"{source}: a study file is a mapping with the keys {', '.join(Study.model_fields)}")
    return _checked(content, source)


def given(content: object) -> Study:
    """The study with the keys and values of a study file. Raises BadStudy as `load`."""
    return _checked(content, "study")


def renamed(study: Study, name: str) -> Study:
    """The same study under another name. Raises BadStudy for one that no study can have."""
    return _checked(study.canonical() | {"name": name}, "--as")


def _checked(content: object, source: str) -> Study:
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise BadStudy("\n".join(f"{source}: {line}" for line in _faults(error))) from error


def _faults(error: ValidationError) -> list[str]:
    lines = []
    faults = error.errors(include_url=False)
    for fault in faults:
        inside = any(
            len(f["loc"]) > len(fault["loc"]) and f["loc"][: len(fault["loc"])] == fault["loc"] for f in faults
        )
        if fault["type"] == "too_short" and inside:
            continue  # what was there is what has the other fault
        path = [str(p) for p in fault["loc"] if p not in ("a perceptron", "a path", "bounds", "a word", "int", "float")]
        key = ".".join(path)
        if fault["type"] == "extra_forbidden":
            allowed = _fields_at(path[:-1])
            lines.append(f"{key}: {unknown('key', path[-1], allowed)}")
        elif fault["type"] == "missing":
            lines.append(f"{key}: this key is required")
        elif fault["type"] == "value_error":
            reason = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{key}: {reason}" if key else reason)
        else:
            lines.append(f"{key}: {fault['msg'].lower()}, not {fault['input']!r}")
    return list(dict.fromkeys(lines))


def _fields_at(path: list[str]) -> list[str]:
    """The keys allowed in the part of the study file that `path` leads to."""
    here: type[BaseModel] = Study
    parts: dict[str, type[BaseModel]] = {
        "problem": Problem, "split": Split, "model": Perceptron, "training": Training, "space": Dimension,
        "budget": Budget, "resources": Resources,
    }  # fmt: skip
    for name in path:
        here = parts.get(name, here)
    return list(here.model_fields)


def text(study: Study) -> str:
    """A study as YAML that `parse` reads back as the same study."""
    return yaml.dump(study.canonical(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of a number (`1e-3` is one) and no silent second value for a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: text that looks like one of its numbers is quoted."""


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?[0-9]+",
    "tag:yaml.org,2002:float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?i:inf)|\.(?i:nan)",
}
for _kind in (_Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _tag, _pattern in _NUMBERS.items():
        _kind.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list("-+0123456789."))
