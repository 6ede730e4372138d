"""The page of every method, solver and pruner has its options, hyperparameters and defaults as the code has them."""

import inspect

import markdown_pages as markdown
import pytest
import yaml

from hpo.choices import BLACK_BOX, METHODS
from hpo.hypergradients import HYPERGRADIENTS
from hpo.registry import AGREEING, DECIDERS, PRUNERS, STRATEGIES, TOLD, resolve
from hpo.study_file import _Loader  # 1e-3 is a number
from solvers import SOLVERS
from solvers.ranges import GRAINS

METHOD_PAGES, SOLVER_PAGES = markdown.DOCS / "methods", markdown.DOCS / "solvers"
PARTS = ["When to use it, and when not", "Source and code", "In a study"]


def options(constructor):
    """Its options and their defaults, as the study file has them."""
    parameters = inspect.signature(constructor).parameters.values()
    plain = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in TOLD}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def agrees(told, defaults):
    """Rows (default, meaning) against the defaults; None is told in words."""
    assert set(told) == set(defaults)
    for name, default in defaults.items():
        said, meaning = told[name]
        value = markdown.code_cell(said)
        assert meaning, name
        if default is None:
            assert said and value is None, name
        else:
            assert value is not None and yaml.load(value, _Loader) == default, name


def test_every_name_has_a_page():
    assert {p.stem for p in METHOD_PAGES.glob("*.md")} == {*METHODS, "descent", "pruners"}
    assert {p.stem for p in SOLVER_PAGES.glob("*.md")} == set(SOLVERS)


@pytest.mark.parametrize("name", METHODS)
def test_the_options_of_a_method(name):
    told = markdown.sections(METHOD_PAGES / f"{name}.md")
    constructor = resolve(STRATEGIES[name] if name in BLACK_BOX else HYPERGRADIENTS[name])
    agrees(markdown.table(told["Options"]), options(constructor) | ({"agreement": False} if name in AGREEING else {}))
    descends = DECIDERS.get(name) == "descent"
    assert ("descent.md" in told["Options"]) == descends
    assert ("pruners.md" in told["Options"]) == (name in BLACK_BOX)
    assert {"Formula", "What it tunes", "Cost", *PARTS} <= set(told)


def test_the_options_of_a_descent():
    told = markdown.sections(METHOD_PAGES / "descent.md")
    agrees(markdown.table(told["Options"]), options(resolve(STRATEGIES["descent"])))
    assert options(resolve(STRATEGIES["relay"])) == {}  # as the page of online says


@pytest.mark.parametrize("name", PRUNERS)
def test_the_options_of_a_pruner(name):
    agrees(markdown.table(markdown.sections(METHOD_PAGES / "pruners.md")[f"`{name}`"]), options(resolve(PRUNERS[name])))


@pytest.mark.parametrize("name", SOLVERS)
def test_the_options_and_hyperparameters_of_a_solver(name):
    told, solver = markdown.sections(SOLVER_PAGES / f"{name}.md"), resolve(SOLVERS[name])
    agrees(markdown.table(told["Options"]), options(solver))
    rows = markdown.table(told["Hyperparameters"])
    assert set(rows) == set(solver.hyperparameters)
    for key, (low, high, default, auto, grains, meaning) in rows.items():
        declared = solver.hyperparameters[key]
        assert (float(low), float(high), float(default)) == (declared.low, declared.high, declared.default), key
        assert (None if auto == "–" else auto) == declared.auto, key
        assert GRAINS if grains == "any" else tuple(grains.split(", ")) == declared.grains, key
        assert meaning, key
    assert {"Formula", "Cost", *PARTS} <= set(told)
