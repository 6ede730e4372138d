"""The pruners give the verdicts that Optuna gives in a study of its own, and those their rules say."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
import studies_small
from hypothesis import given, settings
from hypothesis import strategies as draw
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from hpo.failures import BadStudy
from hpo.pruning.pruners import ASHA, Hyperband, Median, Pruner, pruner_for
from hpo.registry import PRUNERS, resolve
from hpo.task import Curve

POINTS = 10
LABEL = "random-asha/0"


def make(name: str, points: int = POINTS, label: str = LABEL, **options: Any) -> Pruner:
    return resolve(PRUNERS[name])(points, label, **options)


def plain(name: str) -> optuna.pruners.BasePruner:
    """As Optuna makes it when only the resource is said."""
    match name:
        case "asha":
            return SuccessiveHalvingPruner(min_resource=1)
        case "hyperband":
            return HyperbandPruner(max_resource=POINTS)
        case _:
            return MedianPruner()


def pruned_by_optuna(name: str, losses: np.ndarray) -> list[int]:
    """How far every training of a plain study came; the last point is never judged."""
    study = optuna.create_study(study_name=LABEL, pruner=plain(name))
    ended = []
    for curve in losses.tolist():
        trial = study.ask()
        for step, loss in enumerate(curve, 1):
            trial.report(loss, step)
            if step < POINTS and trial.should_prune():
                break
        ended.append(step)
        study.tell(trial, curve[-1]) if step == POINTS else study.tell(trial, state=TrialState.PRUNED)
    return ended


def pruned_by_us(pruner: Pruner, losses: np.ndarray) -> list[int]:
    rivals: dict[int, Curve] = {}
    for number, curve in enumerate(losses.tolist()):
        stops = (k for k in range(1, POINTS) if pruner.stops(number, tuple(curve[:k]), rivals))
        rivals[number] = tuple(curve[: next(stops, POINTS)])
    return [len(curve) for curve in rivals.values()]


def falling(seed: int, trials: int) -> np.ndarray:
    """Learning curves that cross one another."""
    generator = np.random.default_rng(seed)
    ends, speeds = generator.uniform(0.1, 1.0, (trials, 1)), generator.uniform(0.1, 2.0, (trials, 1))
    return ends + np.exp(-speeds * np.arange(1, POINTS + 1)) + generator.normal(0, 0.05, (trials, POINTS))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_a_plain_optuna_study_prunes_the_same(name: str, seed: int) -> None:
    losses = falling(seed, 60)
    ended = pruned_by_us(make(name), losses)
    assert ended == pruned_by_optuna(name, losses)
    assert 1 < np.mean(ended) < 9


@draw.composite
def fields(drawn: draw.DrawFn) -> tuple[dict[int, Curve], Curve]:
    """Rivals that came any distance, and a whole curve that is lower than each of them at every point."""
    lengths = drawn(draw.lists(draw.integers(0, POINTS), max_size=12))
    losses = draw.floats(0.01, 1e6)
    rivals = {n: tuple(drawn(losses) for _ in range(length)) for n, length in enumerate(lengths)}
    lowest = [min((c[k] for c in rivals.values() if len(c) > k), default=1.0) for k in range(POINTS)]
    return rivals, tuple(low * drawn(draw.floats(0, 0.99)) for low in lowest)


@pytest.mark.parametrize("name", sorted(PRUNERS))
@settings(max_examples=60, deadline=None, database=None)
@given(field=fields())
def test_a_training_better_than_all_others_is_never_stopped(name: str, field: tuple[dict[int, Curve], Curve]) -> None:
    rivals, curve = field
    pruner = make(name)
    assert not any(pruner.stops(len(rivals), curve[:k], rivals) for k in range(POINTS + 1))


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_a_verdict_is_a_function_of_the_curves(name: str) -> None:
    """Whatever was asked before, and whatever numbers the rivals had then."""
    curves = [tuple(curve) for curve in falling(3, 30).tolist()]
    used = make(name)
    asked = [(n, curves[n][:k], dict(enumerate(curves[:n]))) for n in range(20, 30) for k in range(1, POINTS)]
    for question in (*asked, *((n, c, dict(enumerate(curves[: n - 10]))) for n, c, _ in asked)):
        used.stops(*question)
    fresh = [make(name).stops(*question) for question in asked]
    assert [used.stops(*question) for question in reversed(asked)] == fresh[::-1]
    assert 0 < sum(fresh) < len(fresh)


def test_the_median_rule() -> None:
    median = make("median", startup=3, warmup=1)
    rivals = {n: (0.9 - 0.1 * n,) * POINTS for n in range(3)}
    assert median.stops(3, (1.0, 0.81), rivals)
    assert not median.stops(3, (1.0, 0.79), rivals)
    assert not median.stops(3, (0.79, 1.0), rivals), "its best point counts"
    assert not median.stops(3, (1.0,), rivals), "it warms up"
    assert not median.stops(3, (1.0, 0.81), {**rivals, 0: (0.9, 0.9)}), "only two are complete"


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_asha_keeps_the_best_of_every_reduction(reduction: int) -> None:
    asha = make("asha", reduction=reduction)
    together = {n: (float(n),) for n in range(12)}
    kept = [n for n in together if not asha.stops(n, together[n], together)]
    assert kept == list(range(12 // reduction))
    rungs = [k for k in range(1, POINTS) if asha.stops(1, (2.0,) * k, {0: (1.0,) * POINTS})]
    assert rungs == [r for r in (1, reduction, reduction**2, reduction**3) if r < POINTS]


def test_asha_begins_at_its_first_rung() -> None:
    asha = make("asha", reduction=2, first=3)
    assert [k for k in range(1, POINTS) if asha.stops(1, (2.0,) * k, {0: (1.0,) * POINTS})] == [3, 6]


def test_hyperbands_brackets() -> None:
    """As many brackets as the paper's, drawn by the arm and the number; trials meet those of their own bracket only."""
    hyperband = make("hyperband", reduction=3)

    def rungs(number: int) -> tuple[int, ...]:
        everybody = dict.fromkeys(range(number), (1.0,) * POINTS)
        return tuple(k for k in range(1, POINTS) if hyperband.stops(number, (2.0,) * k, everybody))

    found = {number: rungs(number) for number in range(40, 160)}
    assert set(found.values()) == {(1, 3, 9), (3, 9), (9,)}
    shares = {(1, 3, 9): 9, (3, 9): 5, (9,): 3}  # ⌈3·3ˢ/(s + 1)⌉ trials of each, s = 2, 1, 0
    for number, bracket in found.items():
        place = zlib.crc32(f"{LABEL}_{number}".encode()) % 17
        assert bracket == ((1, 3, 9) if place < 9 else (3, 9) if place < 14 else (9,))
    assert Counter(found.values()).most_common(1)[0][0] == max(shares, key=shares.__getitem__)
    (one, *_), (other, *_) = ([n for n, b in found.items() if b == bracket] for bracket in ((1, 3, 9), (3, 9)))
    assert hyperband.stops(one, (2.0,), {n: (1.0,) for n, b in found.items() if b == found[one] and n != one})
    assert not hyperband.stops(one, (2.0,), {other: (1.0,) * POINTS})


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_a_loss_that_is_not_finite_stops_and_a_rival_without_points_is_none(name: str) -> None:
    pruner = make(name)
    assert pruner.stops(0, (1.0, float("inf")), {}) and pruner.stops(0, (float("nan"),), {})
    assert not pruner.stops(1, (1.0,) * 9, {0: ()})


def test_settings_are_optunas_arguments_written_out() -> None:
    for name, kind in {"asha": SuccessiveHalvingPruner, "hyperband": HyperbandPruner, "median": MedianPruner}.items():
        written = json.loads(json.dumps(make(name).settings))
        assert written.pop("optuna") == optuna.__version__
        assert written.pop("pruner") == kind.__name__
        kind(**written)
        assert set(written) == set(kind.__init__.__annotations__) - {"return"}


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        ({"name": "asha", "reduction": 1}, "methods.random-asha.pruner.reduction: 1 must be a whole number, 2 or more"),
        ({"name": "asha", "first": 10}, "pruner.first: 10 must be below 10, the points of a learning curve here"),
        ({"name": "asha", "rate": 1}, "pruner.rate: unknown option 'rate': use one of first, reduction"),
        ({"name": "hyperband", "first": 0}, "methods.random-hyperband.pruner.first: 0 must be a whole number, 1 or"),
        ({"name": "median", "startup": 0}, "methods.random-median.pruner.startup: 0 must be a whole number, 1 or"),
        ({"name": "median", "warmup": 2.5}, "pruner.warmup: input should be a valid integer.*not 2.5"),
    ],
)
def test_an_option_out_of_range_is_refused(pruner: dict[str, Any], said: str) -> None:
    arm = studies_small.study(methods=[{"name": "random", "pruner": pruner}]).arms()[0]
    with pytest.raises(BadStudy, match=said):
        pruner_for(arm, POINTS)


def test_an_arm_has_one_pruner_or_none() -> None:
    methods = [{"name": "random"}, {"name": "tpe", "pruner": {"name": "hyperband", "reduction": 2}}]
    none, one = studies_small.study(methods=methods, seeds=[0]).arms()
    assert pruner_for(none, POINTS) is None
    made = pruner_for(one, POINTS)
    assert isinstance(made, Hyperband) and made.settings["reduction_factor"] == 2
    assert pruner_for(one, POINTS) is made, "it has seen its rivals"
    assert {resolve(path) for path in PRUNERS.values()} == {ASHA, Hyperband, Median}


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, hpo.pruning.pruners; print([m for m in ('torch', 'optuna') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_training_of_one_step_cannot_be_stopped():
    study = studies_small.study(methods=[{"name": "random", "pruner": "asha"}])
    with pytest.raises(BadStudy, match="a training of 1 step has no point at which it could be stopped"):
        pruner_for(study.arms()[0], 1)
