"""What a running study shows, in a terminal, in a pipe, and with --quiet."""

import io

import pytest
import studies_small
from rich.console import Console

from hpo import preparation, progress
from hpo import study as loop
from hpo.storage.ledger import Ledger


def shown(tmp_path, terminal, quiet=False, **changes):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None, legacy_windows=False)
    study = studies_small.study(budget={"trainings": 2}, seeds=[0], **changes)
    watcher = progress.watcher(console, quiet)
    with preparation.prepared(study, None) as ready, Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        loop.run(ready, ledger, watcher, {})
        watcher.stop()
        figures = ledger.figures("small")
    return text.getvalue(), figures


def test_a_terminal_gets_a_bar_for_each_arm(tmp_path):
    text, figures = shown(tmp_path, terminal=True)
    assert "small: 3 arms, 2 trainings each" in text
    last = text.rsplit("drmad/0", 1)[1]
    best = min(record.validation_loss for record in figures["random-global/0"])
    assert f"trial   2 best {best:.4f} 60 gradients" in last.split("random-global/0")[1]


def test_a_pipe_gets_a_line_for_each_trial(tmp_path):
    text, figures = shown(tmp_path, terminal=False)
    lines = text.splitlines()
    assert lines[0] == "study small begins: 3 arms"
    assert len(lines) == 1 + 6
    loss = figures["tpe-layer/0"][1].validation_loss
    assert any(f"tpe-layer/0      trial   1  validation {loss:.4f}" in line for line in lines)
    again, _ = shown(tmp_path, terminal=False)
    assert again == "study small continues after 6 trials: 3 arms\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_says_nothing(tmp_path, terminal):
    assert shown(tmp_path, terminal, quiet=True)[0] == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_label_is_shown_as_it_is_written(tmp_path, terminal):
    text, _ = shown(tmp_path, terminal, methods=[{"name": "random", "label": "[red]x[/b]"}])
    assert "[red]x[/b]/0" in text
