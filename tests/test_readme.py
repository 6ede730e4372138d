"""The README is kept true: its commands exist, its study file is one, its example runs."""

import re
from pathlib import Path

import pytest
import torch

from hpo import study_file
from hpo.cli import main
from hpo.hypergradients import HYPERGRADIENTS
from hpo.spec import METHODS

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
    table = README[README.index("## Methods") : README.index("## Resuming")]
    assert [name for name in METHODS if f"`{name}`" not in table] == []
    assert set(HYPERGRADIENTS) <= set(METHODS)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_its_links_lead_somewhere(link):
    assert (ROOT / link).exists()
