"""The README is kept true: its commands exist, its study file is one, its example runs, its figures were measured."""

import inspect
import json
import os
import re
import subprocess
import sys

import markdown_pages as markdown
import pytest
import torch

import hpo
from hpo import study_file
from hpo.choices import METHODS
from hpo.cli import main
from hpo.evaluation import plan
from hpo.hypergradients import HYPERGRADIENTS
from hpo.registry import LOGGERS, PRUNERS, resolve
from hpo.results import Best
from solvers import SOLVERS

COSTED = """
name: costed
problem: {{data: digits, split: {{train: 300, validation: 600}}}}
training: {{solver: {{name: sgd, momentum: 0.9, learning_rate: 0.1}}, steps: 600, batch_size: 100}}
space: {{l2: {{per: layer}}}}
methods: [{method}]
budget: {{trainings: 1}}
"""
SETTINGS = {
    "drmad": {"knots": 4, "krylov": 12, "rows": 300},
    "truncated": {"steps": 100},
    "implicit": {"iterations": 20, "rows": 300},
    "online": {"every": 10, "terms": 5, "rows": 100},
}

PAGE = markdown.ROOT / "README.md"
IN_PYTHON = markdown.DOCS / "python.md"
README = PAGE.read_text(encoding="utf-8")


def part(first, last):
    return README[README.index(f"## {first}") : README.index(f"## {last}")]


def rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| [")]


def test_its_commands_are_those_there_are():
    named = set(re.findall(r"^hpo ([a-z]+)", README, flags=re.MULTILINE))
    assert named == set(main.commands)
    for command in main.commands.values():
        assert command.help, command.name


def test_its_study_file_is_one():
    (text,) = markdown.blocks(PAGE, "yaml")
    assert study_file.parse(text).name == "digits-per-neuron"


def test_its_lines_of_python_name_what_there_is():
    (code,) = markdown.blocks(PAGE, "python")
    assert set(re.findall(r"hpo\.(\w+)\(", code)) <= set(hpo.__all__)
    compile(code, "README.md", "exec")
    members = {*dir(hpo.Result), *re.findall(r"self\.(\w+)", inspect.getsource(hpo.Comparison))}
    assert set(re.findall(r"result\.(\w+)", code)) <= members
    assert set(re.findall(r"result\.best\.(\w+)", code)) <= set(Best._fields)


def test_the_study_in_python_runs(tmp_path):
    (code,) = (code for code in markdown.blocks(IN_PYTHON, "python") if "hpo.run" in code)
    (tmp_path / "few.py").write_text(code, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HPO_")}
    done = subprocess.run(
        [sys.executable, "few.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "random-global" in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "few.html").exists()
    assert (tmp_path / "few.csv").exists()


def test_the_table_of_loggers_is_complete():
    told = markdown.table(markdown.sections(IN_PYTHON)["Callbacks and loggers"])
    assert {name.partition(":")[0] for name in told} == set(LOGGERS)


def test_the_hypergradient_in_python_runs(capsys):
    (code,) = (code for code in markdown.blocks(IN_PYTHON, "python") if "hypergradient(" in code)
    names: dict = {}
    exec(compile(code, "python.md", "exec"), names)
    result = names["result"]
    assert torch.isfinite(result.value)
    assert result.gradient["l2.weight"].shape == (1, 5)
    assert capsys.readouterr().out


def test_it_names_every_method_and_pruner():
    text = part("Methods", "When to use something else")
    assert {name for row in rows(text) for name in re.findall(r"`([\w-]+)`", row[0])} == set(METHODS)
    assert set(HYPERGRADIENTS) <= set(METHODS)
    assert [name for name in PRUNERS if f"`{name}`" not in text] == []


def test_the_costs_in_its_table_are_what_is_charged():
    """With the options left at their defaults."""
    for name, cost in ((row[0], row[3]) for row in rows(part("Methods", "When to use something else"))):
        for method in re.findall(r"`([\w-]+)`", name):
            study = study_file.parse(COSTED.format(method=method))
            planned = plan(study, study.arms()[0], None)
            given = {
                "T": 600,
                "batch": 100,
                "validation": 600,
                "values": planned.space.size,
                **SETTINGS.get(method, {}),
            }
            text = re.split(r": | \(\d T", cost)[0].replace("−", "-").replace("⁄", "/").replace("·", "*")
            text = text.replace("validation rows", "validation").replace(")(", ")*(")
            assert eval(re.sub(r"(\d) T", r"\1*T", text), given) == pytest.approx(planned.evaluations), method


def test_its_table_of_solvers_is_what_they_say_themselves():
    told = {name: row for row in rows(part("Solvers", "Where it runs")) for name in re.findall(r"`(\w+)`", row[0])}
    assert set(told) == set(SOLVERS)
    for name, (_, _, searched, options, _) in told.items():
        solver = resolve(SOLVERS[name])
        assert re.findall(r"`(\w+)`", searched) == [key for key, r in solver.hyperparameters.items() if r.auto], name
        defaults = {
            p.name: p.default for p in inspect.signature(solver).parameters.values() if p.kind is p.KEYWORD_ONLY
        }
        assert set(re.findall(r"`(\w+): ", options)) == set(defaults), name
        for option, default in defaults.items():
            said = json.dumps(list(default) if isinstance(default, tuple) else default).strip('"')
            assert f"`{option}: {said}`" in options, name


@pytest.mark.parametrize("row", rows(part("Measured", "Development")), ids=lambda row: row[0])
def test_a_measured_figure_stands_where_it_links_to(row):
    (link,) = re.findall(r"\]\(([\w./-]+)\)", row[0])
    study = (markdown.ROOT / link).read_text(encoding="utf-8")
    figures = re.findall(r"\d+\.\d+", " ".join(row[1:]))
    assert figures
    assert [figure for figure in figures if figure not in study] == []


def test_it_is_not_too_long():
    assert len(README.splitlines()) <= 250
