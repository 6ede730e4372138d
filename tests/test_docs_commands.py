"""Every command line in the markdown files can be typed, and every command and option is described."""

import re
import shlex

import click
import markdown_pages as markdown
import pytest

from hpo.cli import main

TYPED = sorted(
    {(page, line) for page in markdown.PAGES for line in markdown.code(page) if line.startswith("hpo ")},
    key=lambda typed: (str(typed[0]), typed[1]),
)
NAMED = sorted({said for page in markdown.PAGES for said in re.findall(r"`(hpo [^`]*)`", markdown.prose(page))})


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        found |= commands(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command}
    return found


def found(words):
    """The command that the first words name, and the other words."""
    path = next((path for path in commands() if tuple(words[: len(path)]) == path), None)
    assert path is not None, f"hpo {' '.join(words)}: no such command"
    return commands()[path], words[len(path) :]


def options(command):
    return {name for p in command.params if isinstance(p, click.Option) for name in p.opts}


@pytest.mark.parametrize(("page", "line"), TYPED, ids=lambda x: x if isinstance(x, str) else markdown.shown(x))
def test_a_line_of_code_is_a_command(page, line):
    command, words = found(shlex.split(line, comments=True)[1:])
    command.make_context(command.name, words)


@pytest.mark.parametrize("said", NAMED)
def test_a_command_in_a_sentence_exists(said):
    words = [word for word in shlex.split(said)[1:] if word not in ("COMMAND", "--help")]  # every command has that
    if words:
        command, rest = found(words)
        assert {word for word in rest if word.startswith("-")} <= options(command)


def test_the_page_has_every_command_and_option():
    page = markdown.DOCS / "commands.md"
    told = {head.strip("`"): markdown.table(text) for head, text in markdown.sections(page).items() if "hpo " in head}
    assert set(told) == {usage(path, command) for path, command in commands().items()}
    for path, command in commands().items():
        rows = told[usage(path, command)]
        assert set(rows) == {p.opts[0] for p in command.params if isinstance(p, click.Option)}, path
        assert all(meaning for (meaning,) in rows.values()), path


def usage(path, command):
    words = ["hpo", *path]
    for argument in (p for p in command.params if isinstance(p, click.Argument)):
        name = (argument.metavar or argument.human_readable_name).upper() + ("…" if argument.nargs == -1 else "")
        words.append(name if argument.required else f"[{name}]")
    return " ".join(words)
