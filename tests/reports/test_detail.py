"""One arm and one trial: as JSON, and as a terminal has it."""

from __future__ import annotations

import json
import shlex
import socket

import numpy as np
import pytest
import studies_small
from click.testing import CliRunner
from rich.console import Console

import hpo
from hpo.cli import main
from hpo.failures import BadInput
from hpo.reports import detail, terminal_detail
from hpo.space import Group, Space
from hpo.storage.ledger import Ledger


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study of digits with 20 trials an arm, one of wine, and one arm that fails."""
    url = f"sqlite:///{tmp_path_factory.mktemp('detail')}/hpo.db"
    hpo.run(studies_small.study(budget={"trainings": 20}, seeds=1), url, quiet=True, worker="bench")
    wine = {"data": "wine", "split": {"train": 60, "validation": 60}, "model": {"mlp": [3]}}
    hpo.run(studies_small.study(name="wine", problem=wine, budget={"trainings": 2}, seeds=1), url, quiet=True)
    return url


def shown(url: str, *arguments: str) -> str:
    ran = CliRunner().invoke(main, ["show", *arguments, "--storage", url], env={"COLUMNS": "100"})
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_one_arm(url: str) -> None:
    arm = json.loads(shown(url, "small", "drmad/0", "--json"))
    whole = json.loads(shown(url, "small", "--json"))["arms"][0]
    assert whole.items() <= arm.items()
    assert arm["best_trial"] == min(arm["trials"], key=lambda t: t["validation_loss"])["number"]
    assert arm["inputs"] == {"shape": [1, 8, 8], "names": None}
    text = shown(url, "small", "drmad/0")
    assert "small  drmad/0: complete\ndrmad with sgd, seed 0; l2: 72 (neuron), learning_rate: 2 (layer)\n" in text
    kept = {0, 1, 2, arm["best_trial"], *range(15, 20)}
    rows = [line.split()[0] for line in text.splitlines() if " complete " in line]
    assert [int(number) for number in rows] == sorted(kept)
    assert f"{20 - len(kept)} of 20 trials are left out: --json has them all." in text
    assert f"Next:  hpo show small drmad/0 {arm['best_trial']}" in text


def test_one_trial(url: str) -> None:
    trial = json.loads(shown(url, "small", "drmad/0", "3", "--json"))
    with Ledger.open(url, create=False) as ledger:
        stored = ledger.trials("small", "drmad/0")[3]
    assert stored.outcome is not None and stored.outcome.hypergradient is not None
    assert trial["validation_loss"] == stored.outcome.validation_loss
    assert trial["ran"]["host"] == socket.gethostname()
    assert trial["ran"]["worker"] == "bench"
    assert len(trial["curve"]) == len(stored.outcome.curve)
    l2, values = trial["values"]["l2"], stored.proposal.values["l2"]
    assert [(p["where"], p["count"]) for p in l2["pieces"]] == [("layers.0.weight", 64), ("layers.1.weight", 8)]
    assert l2["pieces"][0]["median"] == np.median(values[:64])
    assert l2["pieces"][1]["max"] == values[64:].max()
    assert [one["value"] for one in l2["largest"]] == sorted(values, reverse=True)[:10]
    assert [one["value"] for one in l2["smallest"]] == sorted(values)[:10]
    norms = trial["hypergradient"]["l2"]
    assert norms["norm"] == pytest.approx(np.linalg.norm(stored.outcome.hypergradient["l2"]))
    assert norms["pieces"][1]["norm"] == pytest.approx(np.linalg.norm(stored.outcome.hypergradient["l2"][64:]))
    text = shown(url, "small", "drmad/0", "3")
    assert f"on {socket.gethostname()} (worker bench)" in text
    assert "l2, per neuron: 72 from 1e-06 to 1\n" in text
    assert text.count("gradient‖") == 2
    narrow = CliRunner().invoke(main, ["show", "small", "drmad/0", "3", "--storage", url], env={"COLUMNS": "40"}).output
    assert next(line for line in narrow.splitlines() if "layers.0.weight" in line).split()[:2] == [
        "layers.0.weight", "64",
    ]  # fmt: skip
    assert f"{l2['largest'][0]['name']} " in text
    assert "pixel (" in text


def test_a_table_is_told_by_its_columns(url: str) -> None:
    trial = json.loads(shown(url, "wine", "drmad/0", "1", "--json"))
    names = {one["name"] for end in ("largest", "smallest") for one in trial["values"]["l2"][end]}
    assert names & {f"layers.0.weight: column {column}" for column in ("alcohol", "proline", "hue", "ash")}
    assert json.loads(shown(url, "wine", "random-global/0", "1", "--json"))["hypergradient"] is None
    assert "l2, per global: 1 from 1e-06 to 1" in shown(url, "wine", "random-global/0", "1")
    assert "largest" not in shown(url, "wine", "random-global/0", "1")
    assert "largest" in shown(url, "wine", "drmad/0", "1")
    assert "largest" not in shown(url, "wine", "drmad/0", "0")  # all values are equal: the defaults


def test_what_to_do_next_can_be_typed(ledger: Ledger) -> None:
    console = Console(width=40, record=True)
    arm = detail.arm(ledger, "digits", "drmad/0")
    terminal_detail.arm(console, arm | {"label": "[red] it's/0", "best_trial": 2})
    last = console.export_text().splitlines()[-1]
    assert shlex.split(last.removeprefix("Next:")) == ["hpo", "show", "digits", "[red] it's/0", "2"]
    assert "1 training, " in "\n".join(terminal_detail._settings(arm | {"cost": arm["cost"] | {"trainings": 1}}))


def test_arms_and_trials_that_there_are_not(url: str, ledger: Ledger) -> None:
    for arguments, said in [
        (["small", "drma/0"], "hpo: study 'small': unknown arm 'drma/0': use one of"),
        (["small", "drmad/0", "x"], "hpo: arm drmad/0 has no trial x: its trials are 0 … 19"),
        (["small", "drmad/0", "20"], "hpo: arm drmad/0 has no trial 20: its trials are 0 … 19"),
    ]:
        ran = CliRunner().invoke(main, ["show", *arguments, "--storage", url])
        assert ran.exit_code == 2
        assert said in ran.output
    with pytest.raises(BadInput, match="arm tpe-global/1 has no trial 1: its trials are 0 … 0"):
        detail.trial(ledger, "digits", "tpe-global/1", 1)
    with pytest.raises(BadInput, match="arm random/1 has no trial 0: it has none yet"):
        detail.trial(ledger, "digits", "random/1", 0)


def test_trials_that_run_or_failed(ledger: Ledger) -> None:
    l2 = Group("l2", "neuron", 1e-6, 1.0, 1e-3, True, 3, ())
    rate = Group("learning_rate", "global", 1e-3, 1.0, 0.05, True, 1, ())
    ledger.describe("digits", "random/0", Space((l2, rate)), {})
    console = Console(width=100, record=True)
    terminal_detail.trial(console, running := detail.trial(ledger, "digits", "drmad/0", 3))
    terminal_detail.trial(console, failed := detail.trial(ledger, "digits", "random/0", 0))
    terminal_detail.arm(console, detail.arm(ledger, "digits", "random/0"))
    terminal_detail.arm(console, detail.arm(ledger, "digits", "random/1"))
    assert (running["state"], running["closed"], running["curve"], running["hypergradient"]) == (
        "running", None, [], None,
    )  # fmt: skip
    assert failed["validation_loss"] is None
    text = console.export_text()
    assert "UTC to now" in text
    assert "diverged: the validation loss is not finite" in text
    assert "validation loss, trial by trial" not in text
    assert "No trials yet." in text


def test_the_spark_line() -> None:
    assert terminal_detail.spark([3.0, 2.0, None, 1.0]) == "█▅×▁"
    assert terminal_detail.spark([1.0, 1.0]) == "▁▁"
    assert terminal_detail.spark([]) == ""
    many = terminal_detail.spark([float(i % 100 == 50) for i in range(6000)])
    assert len(many) == 60
    assert set(many) == {"▁"}
