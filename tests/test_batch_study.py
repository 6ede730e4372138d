"""Arms that like to have several trials under way, in a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import studies_small

from hpo import preparation
from hpo import study as loop
from hpo.arm import ArmRun, strategy_for
from hpo.execution import worker
from hpo.failures import BadStudy
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger
from hpo.trial import Outcome, Trial

METHODS = [{"name": "drmad", "krylov": 4, "knots": 3, "restarts": 3, "rung": 1}]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as opened:
        yield opened


def run(ledger: Ledger, **changes: Any) -> dict[Any, Any]:
    study = studies_small.study(methods=METHODS, seeds=[0], **changes)
    with preparation.prepared(study, None) as ready:
        loop.run(ready, ledger, Quiet(), {"hpo": "test"})
    return studies_small.essence(ledger, study.name)


def arm_run(method: dict[str, Any], slots: int = 1, places: int = 1) -> ArmRun:
    study = studies_small.study(methods=[method], seeds=[0])
    arm = study.arms()[0]
    plan = worker.plan(study, arm, None)
    return ArmRun(arm, plan, strategy_for(arm, plan), study.budget, slots=slots, places=places)


def test_restarts_continued_in_the_middle_of_a_rung_are_the_same_as_unbroken(ledger: Ledger, tmp_path: Path) -> None:
    unbroken = run(ledger, budget={"trainings": 5})
    with Ledger.open(f"sqlite:///{tmp_path}/again.db") as again:
        run(again, budget={"trainings": 2})
        assert run(again, budget={"trainings": 5}) == unbroken
    assert len({str(trial[0]) for trial in unbroken.values()}) == 5
    settings = ledger.arms("small")[0].settings
    assert (settings["restarts"], len(settings["members"])) == (3, 3)


@pytest.mark.parametrize(
    ("method", "slots", "places", "width"),
    [
        ({"name": "random"}, 1, 1, 1),
        ({"name": "random"}, 2, 64, 64),
        ({"name": "tpe"}, 1, 64, 1),
        ({"name": "tpe"}, 2, 64, 2),
        ({"name": "tpe", "batch": 8}, 1, 64, 8),
        ({"name": "tpe", "batch": 8}, 1, 1, 1),
        ({"name": "tpe", "batch": 8}, 16, 64, 16),
        (METHODS[0], 1, 64, 3),
    ],
)
def test_an_arm_has_as_many_under_way_as_its_method_likes_and_there_is_room_for(
    method: dict[str, Any], slots: int, places: int, width: int
) -> None:
    arm = arm_run(method, slots=slots, places=places)
    assert arm.width == width
    arm.mine.update(range(min(width, 4)))
    assert arm.room == (width > 4), "of five trainings four run"


def test_fewer_are_under_way_as_losers_are_stopped() -> None:
    arm = arm_run(METHODS[0], places=64)
    for number in range(3):
        proposal = arm.strategy.ask(number)
        assert proposal is not None
        arm.begun(proposal)
        arm.take(Trial(proposal, Outcome("complete", float(number), 0.0)))
    assert arm.width == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "online", "restarts": 2}, r"methods\.online\.restarts: unknown option 'restarts'"),
        ({"name": "drmad", "restarts": 0}, r"methods\.drmad\.restarts: 0 must be a whole number, 1 or more"),
        ({"name": "drmad", "rung": 2}, r"methods\.drmad\.rung: 2 belongs to several restarts"),
        ({"name": "random", "batch": 2}, r"methods\.random\.batch: unknown option 'batch'"),
        ({"name": "gp", "batch": 0}, r"methods\.gp\.batch: 0 must be a whole number, 1 or more"),
    ],
)
def test_what_has_no_several_is_refused(method: dict[str, Any], message: str) -> None:
    with pytest.raises(BadStudy, match=message):
        arm_run(method)
