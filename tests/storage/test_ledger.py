"""What the ledger's verbs do, on SQLite and, where there is one, on PostgreSQL."""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entries import ARM, FREE, changed, claimed, left_running, outcome, proposal, record, taken_up
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from hpo.failures import BadInput, BadStorage
from hpo.space import Group, Piece, Space
from hpo.spec import Study
from hpo.storage import arrays
from hpo.storage.ledger import Ledger
from hpo.storage.records import Standing
from hpo.storage.tables import ArmRow, EventRow, StudyRow, Table, TrialRow, VersionRow
from hpo.task import InputRow
from hpo.trial import Cost, Outcome, Proposal


def test_a_study_comes_back_as_it_was(begun: Ledger, study: Study) -> None:
    found = begun.study("digits")
    assert found.spec == study
    assert found.spec.digest() == study.digest()
    assert list(found.spec.space) == list(study.space)
    assert found.versions == {"python": "3.11"}
    assert found.created.tzinfo is not None
    assert [(a.label, a.title, a.method, a.solver, a.per, a.seed, a.state) for a in begun.arms("digits")] == [
        ("drmad/0", "drmad", "drmad", "sgd", None, 0, "open"),
        ("tpe-global/0", "tpe-global", "tpe", "sgd", "global", 0, "open"),
        ("drmad/1", "drmad", "drmad", "sgd", None, 1, "open"),
        ("tpe-global/1", "tpe-global", "tpe", "sgd", "global", 1, "open"),
    ]


def test_an_arm_is_described_with_the_place_of_its_values(begun: Ledger) -> None:
    group = Group("l2", "neuron", 1e-6, 1.0, 1e-3, True, 114, (Piece("l2.layers.0.weight", 0, 114, (1, 114)),))
    row = InputRow((2,), ("age", "job=clerk"))
    begun.describe("digits", ARM, Space((group,)), {"rate": 0.3, "betas": [0.8, 0.99]}, row)
    arm = begun.arms("digits")[0]
    assert arm.inputs == {"shape": [2], "names": ["age", "job=clerk"]}
    assert begun.arms("digits")[1].inputs is None
    assert arm.settings == {"rate": 0.3, "betas": [0.8, 0.99]}
    assert arm.space == [
        {"name": "l2", "per": "neuron", "low": 1e-6, "high": 1.0, "default": 1e-3, "log": True, "size": 114}
        | {"pieces": [{"weight": "layers.0.weight", "start": 0, "stop": 114, "shape": [1, 114]}]}
    ]


def test_an_unknown_study_or_arm_is_named_with_the_nearest(begun: Ledger) -> None:
    with pytest.raises(BadInput, match=r"unknown study 'digit': use one of digits; did you mean 'digits'\?"):
        begun.study("digit")
    with pytest.raises(BadInput, match="unknown study 'digit'"):
        begun.trials("digit", ARM)
    with pytest.raises(BadInput, match=r"study 'digits': unknown arm 'drmad/9': .* did you mean 'drmad/"):
        begun.trials("digits", "drmad/9")


def test_a_trial_is_claimed_then_closed_once(begun: Ledger) -> None:
    with begun.attend("digits", 1) as lease:
        claim = claimed(begun, lease, 0)
        [running] = begun.trials("digits", ARM)
        assert running.state == "running"
        assert begun.close_trial(claim, outcome(1.0))
        [closed] = begun.trials("digits", ARM)
        assert closed.state == "complete"
        assert begun.close_trial(claim, outcome(2.0))  # the same claim again: nobody knew whether it came through
        assert not begun.close_trial(claim._replace(trial_id=99), outcome(2.0))
        assert not begun.close_trial(claim._replace(lease=lease._replace(token=99)), outcome(2.0))
        [same] = begun.trials("digits", ARM)
        assert same.outcome is not None
        assert same.outcome.validation_loss == 1.0
    assert begun.standing("digits")[ARM] == Standing(1, 0, Cost(1, 600.0, 2.5))


def test_a_claim_compares_number_width_and_budget(begun: Ledger) -> None:
    with begun.attend("digits", 1) as lease:

        def may(number: int, **terms: Any) -> bool:
            return begun.claim(lease, ARM, proposal(number), 0.0, FREE._replace(**terms)) is not None

        assert not may(1)  # trial 0 comes first
        assert may(0)
        assert not may(1, width=1)
        assert not may(1, amount=1)  # one runs, one more is too much
        assert not may(1, unit="gradient_evaluations", amount=1199.0, charge=600.0)
        assert may(1, unit="gradient_evaluations", amount=1200.0, charge=600.0, width=2)
        assert begun.claim(lease, ARM, proposal(1), 0.0, FREE) is not None  # its own, asked for again
        assert may(2, unit="seconds", amount=1e-9, charge=0.0)  # none has been spent
        assert [t.number for t in begun.trials("digits", ARM)] == [0, 1, 2]
    with begun.attend("digits", 1, "another") as other:
        assert begun.claim(other, ARM, proposal(1), 0.0, FREE) is None


def test_a_trial_whose_arrays_cannot_be_stored_is_not_stored_at_all(begun: Ledger) -> None:
    objects: Any = np.array(["a"], dtype=object)
    said = r"array 'values/l2' holds Python objects \(object\); only numbers"
    with begun.attend("digits", 1) as lease, pytest.raises(TypeError, match=said):
        begun.claim(lease, ARM, Proposal(0, {"l2": objects[:0]}), 0.0, FREE)
    assert begun.trials("digits", ARM) == []
    assert begun.standing("digits")[ARM] == Standing(0, 0, Cost(0, 0.0, 0.0))


def test_deleted_studies_leave_nothing_and_their_numbers_are_never_given_again(begun: Ledger, study: Study) -> None:
    ids = []
    for _ in range(2):
        record(begun, 0, 1.0)
        left_running(begun, 1)
        with begun._database.read() as session:
            ids.append([session.scalar(select(func.max(t.id))) for t in (StudyRow, ArmRow, TrialRow, EventRow)])
        begun.delete("digits")
        with begun._database.read() as session:
            tables = [t for t in Table.metadata.sorted_tables if t.name != VersionRow.__tablename__]
            assert [session.scalar(select(func.count()).select_from(t)) for t in tables] == [0] * len(tables)
        begun.begin(study, {})
    assert all(later > earlier for earlier, later in zip(*ids, strict=True))


def test_a_study_that_runs_is_not_deleted(begun: Ledger) -> None:
    with begun.attend("digits", 1), pytest.raises(BadStorage, match="study 'digits' is being run: stop it first"):
        begun.delete("digits")
    assert begun.study("digits").runs == 0


def test_a_trial_without_its_arm_is_refused_by_the_database(begun: Ledger) -> None:
    with pytest.raises(IntegrityError), begun._database.write() as session:
        session.add(TrialRow(arm_id=999, number=0, state="running", summary={}, ask_seconds=0.0))


def test_what_an_arm_spent_counts_closed_trials_and_the_time_to_ask(begun: Ledger) -> None:
    assert begun.standing("digits")[ARM].cost == Cost(0, 0.0, 0.0)
    record(begun, 0, 1.0)
    record(begun, 1, math.nan)
    record(begun, 0, 1.0, arm="drmad/1")
    left_running(begun, 2, ask_seconds=100.0)
    assert begun.standing("digits")[ARM] == Standing(3, 1, Cost(2, 1200.0, 5.0))


def test_an_arm_keeps_the_weights_of_its_best_trial_alone(begun: Ledger) -> None:
    def weights(value: float) -> dict[str, Any]:
        return {"layers.0.weight": np.full((2, 3), value, dtype=np.float32), "scale": np.array(value)}

    record(begun, 0, 2.0, weights=weights(0.0))
    record(begun, 1, 1.0, weights=weights(1.0))
    record(begun, 2, 1.5)
    record(begun, 3, 1.5, weights=weights(3.0))  # was under way when trial 1 ended
    record(begun, 4, 1.0, weights=weights(4.0))  # equal: the first one stays
    record(begun, 5, math.nan, weights=weights(5.0))
    record(begun, 0, 3.0, arm="drmad/1", weights=weights(6.0))
    kept = begun.weights("digits", ARM, 1)
    assert kept is not None
    assert list(kept) == ["layers.0.weight", "scale"]
    assert {name: (w.dtype, w.shape, w.flat[0]) for name, w in kept.items()} == {
        "layers.0.weight": (np.float32, (2, 3), 1.0),
        "scale": (np.float64, (), 1.0),
    }
    assert [begun.weights("digits", ARM, n) for n in (0, 2, 3, 4, 5, 99)] == [None] * 6
    assert begun.weights("digits", "drmad/1", 0) is not None


def test_summaries_count_and_choose(begun: Ledger, study: Study) -> None:
    begun.begin(changed(study, name="wine"), {})
    record(begun, 0, math.nan)
    record(begun, 1, math.inf)
    record(begun, 2, -math.inf)
    left_running(begun, 3)
    [digits, wine] = begun.studies()
    assert (digits.name, digits.trials, digits.best_validation_loss) == ("digits", 3, None)
    assert (wine.name, wine.trials, wine.best_validation_loss) == ("wine", 0, None)
    with begun.attend("digits", 1) as lease:
        found = taken_up(begun, lease)
        assert found is not None
        assert begun.close_trial(found.claim, Outcome("failed", 0.1, 0.1))
    record(begun, 4, 0.5)
    record(begun, 0, 0.4, arm="tpe-global/1")
    begun.finish("digits", ARM, "complete")
    begun.finish("digits", "drmad/1", "failed")
    [digits, _] = begun.studies()
    assert (digits.trials, digits.best_validation_loss) == (6, 0.4)
    assert digits.arms == {"open": 2, "complete": 1, "failed": 1}


def test_figures_are_those_of_the_trials(begun: Ledger) -> None:
    left_running(begun, 0, 3.0, 1.0, 2.0, 5.0, ask_seconds=0.25)
    record(begun, 1, math.nan, failure="diverged", test_accuracy=math.nan)
    figures = begun.figures("digits")
    assert list(figures) == [a.label for a in begun.arms("digits")]
    first, second = figures[ARM]
    assert (first.number, first.state, first.derivative, first.ask_seconds) == (0, "running", "drmad", 0.25)
    assert first.cost == Cost(0, 0.0, 0.0)
    assert first.summary == {"l2": [1.0, 2.5, 5.0], "learning_rate": [0.05, 0.05, 0.05]}
    assert (second.number, second.failure, second.cost) == (1, "diverged", Cost(1, 600.0, 2.0))
    assert math.isnan(second.validation_loss)
    assert second.test_accuracy is None


def test_a_summary_of_what_is_not_finite_is_empty() -> None:
    values = {"a": np.array([1.0, np.nan]), "b": np.zeros(0), "c": np.array([1.7e308, 1.7e308])}
    assert arrays.summary(Proposal(0, values)) == {"a": [None] * 3, "b": [None] * 3, "c": [1.7e308] * 3}


def test_listing_ten_thousand_trials_loads_no_array(tmp_path: Path, study: Study) -> None:
    path = tmp_path / "hpo.db"
    with Ledger.open(f"sqlite:///{path}") as ledger:
        ledger.begin(study, {})
        record(ledger, 0, 1.0)
        with sqlite3.connect(path) as connection:
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) INSERT INTO hpo_trial "
                "(arm_id, number, state, summary, ask_seconds, opened, validation_loss, trainings) "
                "SELECT 1, i, 'complete', '{\"l2\": [1, 2, 3]}', 0, '2026-01-01 00:00:00', 1 + i, 1 FROM n"
            )
            connection.execute("DROP TABLE hpo_array")  # what is gone cannot be read
        connection.close()
        started = time.process_time()
        assert ledger.studies()[0].trials == 10_000
        assert len(ledger.figures("digits")[ARM]) == 10_000
        assert ledger.standing("digits")[ARM].next_number == 1
        print(f"10,000 trials listed in {time.process_time() - started:.2f} s")
