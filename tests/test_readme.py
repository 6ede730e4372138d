"""The README is kept true: its commands exist, its study file is one, its example runs."""

import inspect
import json
import re
from pathlib import Path

import pytest
import torch

from hpo import study_file
from hpo.choices import METHODS
from hpo.cli import main
from hpo.hypergradients import HYPERGRADIENTS
from hpo.registry import PRUNERS, resolve
from solvers import SOLVERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_its_commands_are_those_there_are():
    named = set(re.findall(r"^hpo ([a-z]+)", README, flags=re.MULTILINE))
    assert named == set(main.commands)
    for command in main.commands.values():
        assert command.help, command.name


def test_its_study_file_is_one():
    (text,) = blocks("yaml")
    assert study_file.parse(text).name == "digits-per-neuron"


def test_its_example_runs(capsys):
    (code,) = blocks("python")
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    result = names["result"]
    assert torch.isfinite(result.value)
    assert result.gradient["l2.weight"].shape == (1, 5)
    assert capsys.readouterr().out


def test_it_names_every_method():
    table = README[README.index("## Methods") : README.index("## One database")]
    assert [name for name in METHODS if f"`{name}`" not in table] == []
    assert set(HYPERGRADIENTS) <= set(METHODS)


def test_its_table_of_solvers_is_what_they_say_themselves():
    table = README[README.index("## Solvers") : README.index("## Methods")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    told = {name: row for row in rows[1:] for name in re.findall(r"`(\w+)`", row[0])}
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


def test_its_table_of_pruners_has_their_options():
    for name, path in PRUNERS.items():
        (told,) = re.findall(rf"^\| `{name}` \|.*\|(.*)\|$", README, flags=re.MULTILINE)
        parameters = inspect.signature(resolve(path)).parameters.values()
        defaults = {f"{p.name}: {p.default}" for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert set(re.findall(r"`(\w+: \w+)`", told)) == defaults, name


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_its_links_lead_somewhere(link):
    assert (ROOT / link).exists()
