"""docs/study-file.md has every key of the study file, its type and its default, and none that does not exist."""

import markdown_pages as markdown
import pytest
import yaml
from pydantic import TypeAdapter

from hpo.choices import Method, PrunerChoice, SolverChoice
from hpo.dimension import Dimension
from hpo.resources import Resources
from hpo.spec import Budget, Perceptron, Problem, Split, Study, Training
from hpo.study_file import _Loader

TOLD = markdown.sections(markdown.DOCS / "study-file.md")
SECTIONS = {
    "Top level": Study,
    "`problem`": Problem,
    "`problem.split`": Split,
    "`problem.model`": Perceptron,
    "`training`": Training,
    "`training.solver`": SolverChoice,
    "`space`": Dimension,
    "`methods`": Method,
    "`methods.pruner`": PrunerChoice,
    "`budget`": Budget,
    "`resources`": Resources,
}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def simple(schema):
    """The type in the page's words; None where it is a part, a list or a choice between such."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    if len(kinds) != 1:
        return None
    if "enum" in kinds[0]:
        return ", ".join(f"`{word}`" for word in kinds[0]["enum"])
    return TYPES.get(kinds[0].get("type"))


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_its_keys(heading):
    model, rows = SECTIONS[heading], markdown.table(TOLD[heading])
    assert list(rows) == list(model.model_fields) or set(rows) == set(model.model_fields)
    schema = TypeAdapter(model).json_schema()["properties"]
    for key, field in model.model_fields.items():
        said, default, meaning = rows[key]
        expected = simple(schema[key])
        assert expected is None or said == expected, key
        assert meaning, key
        code = markdown.code_cell(default)
        if field.is_required():
            assert default == "required", key
        elif field.default is None:
            assert default == "–", key
        elif code is None:
            assert default == "all its defaults", key
            assert field.default == type(field.default).model_validate({}), key
        else:
            given = {**required(model), key: yaml.load(code, _Loader)}
            assert getattr(model.model_validate(given), key) == field.default, key


def required(model):
    """The least that makes a valid part."""
    least = {
        "name": "sgd" if model is SolverChoice else "tpe" if model is Method else "asha",
        "data": "digits",
        "mlp": [],
        "steps": 1,
        "batch_size": 1,
    }
    if model is Study:
        return {
            "name": "least",
            "problem": {"data": "digits"},
            "training": {"steps": 1, "batch_size": 1},
            "space": {"l2": {}},
            "methods": ["random"],
            "budget": {"trainings": 1},
        }
    return {key: least[key] for key, field in model.model_fields.items() if field.is_required()}


def test_every_table_of_the_page_is_compared():
    assert {heading for heading, text in TOLD.items() if "| key |" in text} == set(SECTIONS)
