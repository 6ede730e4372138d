"""What a study is expected to take: from charges and a probe by arithmetic, as JSON and as sentences."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_terminal import joined, printed, row

from hpo.reports import preview, terminal
from hpo.space import Group, Space
from hpo.spec import Study
from hpo.task import Plan, Probe

SPACE = Space((Group("l2", "neuron", 1e-6, 1.0, 1e-3, True, 3, ()),))
HEAVY = Plan(SPACE, 3000.0, 5 * 2**20, {}, (300, 600, 897), 6310)
PLAIN = Plan(SPACE, 600.0, 0, {}, (300, 600, 897), 6310)
PROBE = Probe(0.001, 2**20)


def checked(study: Study, **changes: Any) -> dict[str, Any]:
    """Both seeds of drmad with a heavy plan, the others with a plain one."""
    changed = Study.model_validate(study.canonical() | changes)
    plans = {arm.label: HEAVY if arm.title == "drmad" else PLAIN for arm in changed.arms()}
    report = preview.check(changed, plans, dict.fromkeys(plans, PROBE))
    return json.loads(json.dumps(report, allow_nan=False))


def test_every_key_of_an_arm(study: Study) -> None:
    report = checked(study)
    assert report["study"] == "digits"
    assert report["spec"] == study.canonical()
    assert [arm["label"] for arm in report["arms"]] == [arm.label for arm in study.arms()]
    assert report["arms"][0] == {
        "label": "drmad/0",
        "title": "drmad",
        "pruner": None,
        "rows": {"train": 300, "validation": 600, "test": 897},
        "parameters": 6310,
        "gradient_evaluations_per_trial": 3000.0,
        "seconds_per_gradient_evaluation": 0.001,
        "seconds_measuring": 0.0,
        "seconds_per_trial": 3.0,
        "memory_bytes": 6 * 2**20,
        "trials": 30,
        "seconds": 90.0,
        "space": [
            {"name": "l2", "per": "neuron", "low": 1e-6, "high": 1.0, "default": 1e-3, "log": True, "size": 3}
            | {"pieces": []}
        ],
    }


def test_looking_at_the_parts_takes_time_too(study: Study) -> None:
    arm = study.arms()[0]
    plans, probes = {a.label: PLAIN for a in study.arms()}, {a.label: Probe(0.001, 0, 0.25) for a in study.arms()}
    found = preview.check(study, plans, probes)["arms"][0]
    assert found["label"] == arm.label
    assert (found["seconds_measuring"], found["seconds_per_trial"]) == (0.25, pytest.approx(0.85))


def test_the_whole_is_the_sum_of_the_arms(study: Study) -> None:
    assert checked(study)["seconds"] == pytest.approx(2 * (90 + 18 + 18))


@pytest.mark.parametrize(
    ("budget", "heavy", "plain"),
    [
        ({"trainings": 7}, 7, 7),
        ({"gradient_evaluations": 9000.0}, 3, 15),
        ({"gradient_evaluations": 8999.0}, 2, 14),
        ({"seconds": 6.5}, 3, 11),
        ({"seconds": 0.1}, 1, 1),
    ],
)
def test_trials_are_those_the_budget_has_room_for(
    study: Study, budget: dict[str, float], heavy: int, plain: int
) -> None:
    arms = {arm["label"]: arm for arm in checked(study, budget=budget)["arms"]}
    assert (arms["drmad/0"]["trials"], arms["random/0"]["trials"]) == (heavy, plain)
    for arm in arms.values():
        assert arm["seconds"] == pytest.approx(arm["trials"] * arm["seconds_per_trial"])


def test_what_is_printed(study: Study) -> None:
    text = printed(terminal.check, checked(study))
    assert "digits can be run" in text
    assert row(text, "drmad") == ["drmad", "300", "600", "897", "6310", "3000", "l2:", "3", "(neuron)"]
    sentences = joined(text)
    assert "drmad: about 3.0 s and 6.0 MiB a trial, 3.0 min in all (30 trials, 2 seeds)" in sentences
    assert "random: about 600 ms and 1.0 MiB a trial, 36.0 s in all (30 trials, 2 seeds)" in sentences
    assert "The whole study: about 4.2 min of work for one worker" in sentences


def test_trials_of_a_pruned_arm_are_counted_as_whole_ones(study: Study) -> None:
    report = checked(study, methods=["random", {"name": "random", "pruner": "asha"}])
    assert [arm["pruner"] for arm in report["arms"]] == [None, "asha"] * 2
    assert "(30 trials, 2 seeds, as if asha stopped none)" in joined(printed(terminal.check, report))


def test_one_trial_and_several_workers(study: Study) -> None:
    report = checked(study, budget={"trainings": 1}, seeds=1, resources={"workers": 3})
    sentences = joined(printed(terminal.check, report))
    assert "drmad: about 3.0 s and 6.0 MiB a trial, 3.0 s in all (1 trial, 1 seed)" in sentences
    assert "about 4.2 s of work for 3 workers" in sentences
