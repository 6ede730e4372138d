"""Many processes on one database at once: nothing is made twice, nothing is done twice, nothing is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import studies_small
import yaml
from instant import COST
from sqlalchemy import func, select

from hpo import preparation
from hpo import study as loop
from hpo.progress import Quiet
from hpo.spec import Study
from hpo.storage import upkeep
from hpo.storage.ledger import Ledger
from hpo.storage.records import Standing
from hpo.storage.tables import ArmRow, EventRow, LeaseRow, StudyRow
from hpo.trial import Cost

TOGETHER, TRIALS, RUNS = 8, 600, 3
PATIENCE = 600.0
FOLDERS = [str(folder) for folder in Path(__file__).parents[:3]]
"""Of what the processes import."""

ATTEND = """
import sys
from hpo.spec import Study
from hpo.storage.ledger import Ledger

study = Study.model_validate_json(sys.argv[2])
sys.stdin.read()
with Ledger.open(sys.argv[1]) as ledger:
    ledger.begin(study, {})
    with ledger.attend(study.name, slots=1) as lease:
        print(lease.token)
"""

DRAIN = """
import sys
import instant
from hpo.storage.ledger import Ledger

sys.stdin.read()
with open(sys.argv[2], "a") as executed, Ledger.open(sys.argv[1]) as ledger:
    study = instant.instant_study(int(sys.argv[3]))
    instant.run(ledger, study, lambda task, _: print(task.proposal.number, file=executed))
"""


def together(commands: list[list[str]]) -> list[str]:
    """What each said, after all were let go at once; fails if one of them did."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(FOLDERS)},
                )
            )
            for command in commands
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        ended = [process.communicate(timeout=PATIENCE) for process in processes]
        assert [(p.returncode, error) for p, (_, error) in zip(processes, ended, strict=True)] == [(0, "")] * len(ended)
    return [said for said, _ in ended]


def test_all_begin_one_study_on_an_empty_database(url: str, study: Study) -> None:
    said = together([["-c", ATTEND, url, study.model_dump_json()] for _ in range(TOGETHER)])
    assert len(set(said)) == TOGETHER
    with Ledger.open(url, create=False) as ledger, ledger._database.read() as session:
        counts = [session.scalar(select(func.count()).select_from(row)) for row in (StudyRow, ArmRow, LeaseRow)]
        assert counts == [1, len(study.arms()), 0]
        assert sorted(session.scalars(select(EventRow.kind))) == ["attended"] * TOGETHER + ["begun"] * TOGETHER
    assert upkeep.check(url) == []


def test_many_drain_one_arm(url: str, tmp_path: Path) -> None:
    files = [tmp_path / str(i) for i in range(TOGETHER)]
    together([["-c", DRAIN, url, str(file), str(TRIALS)] for file in files])
    executed = Counter(int(number) for file in files for number in file.read_text().split())
    assert executed == Counter(range(TRIALS))
    with Ledger.open(url, create=False) as ledger:
        [(arm, standing)] = ledger.standing("small").items()
        seconds = sum(t.ask_seconds + COST.seconds for t in ledger.figures("small")[arm])
        cost = Cost(TRIALS, TRIALS * COST.gradient_evaluations, standing.cost.seconds)
        assert standing == Standing(TRIALS, 0, cost)
        assert cost.seconds == pytest.approx(seconds)
        assert {trial.state for trial in ledger.trials("small", arm)} == {"complete"}
        values = {trial.proposal.values["learning_rate"][0] for trial in ledger.trials("small", arm)}
        assert len(values) == TRIALS, "a proposal is of its number alone"
    assert upkeep.check(url) == []


def test_several_runs_do_what_one_does(url: str, tmp_path: Path) -> None:
    study = studies_small.study()
    assert len(study.arms()) >= RUNS
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(study.canonical()))
    command = ["-c", "from hpo.cli import main; main()", "run", str(file), "--quiet", "--storage", url]
    together([command] * RUNS)
    with Ledger.open(f"sqlite:///{tmp_path}/alone.db") as alone, preparation.prepared(study, None) as ready:
        loop.run(ready, alone, Quiet(), {})
        expected = studies_small.essence(alone, "small")
    with Ledger.open(url, create=False) as ledger:
        assert studies_small.essence(ledger, "small") == expected
        assert {arm.state for arm in ledger.arms("small")} == {"complete"}
    assert upkeep.check(url) == []
