"""What Optuna reads of a study of ours, and what is left when it cannot be written."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import numpy as np
import optuna
import pytest
import recorded
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta
from optuna.trial import TrialState
from sqlalchemy import create_engine, make_url, text

from hpo.failures import BadInput, BadStorage
from hpo.interop import stored, to_optuna
from hpo.storage.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as opened:
        recorded.recorded(opened)
        yield opened


@pytest.fixture
def target(tmp_path):
    return f"sqlite:///{tmp_path}/optuna.db"


def loaded(url, arm=recorded.SAMPLER):
    return optuna.load_study(study_name=f"{recorded.NAME}/{arm}", storage=url)


def test_every_arm_is_a_study_that_tells_where_it_comes_from(ledger, target):
    assert to_optuna.write(ledger, recorded.NAME, target) == [f"digits/{label}" for label in recorded.SPACES]
    study = loaded(target)
    assert study.direction.name == "MINIMIZE"
    assert study.user_attrs == {
        "study": "digits", "arm": "tpe-layer/0", "method": "tpe", "solver": "sgd", "per": "layer", "seed": 0,
        "settings": {"seed": 0, "rates": [0.1, 0.2]},
    }  # fmt: skip


def test_closed_trials_are_there_in_their_order_with_all_that_is_finite(ledger, target):
    to_optuna.write(ledger, recorded.NAME, target)
    ours = [t for t in ledger.trials(recorded.NAME, recorded.SAMPLER) if t.outcome is not None]
    theirs = loaded(target).trials
    assert [t.user_attrs["number"] for t in theirs] == [t.number for t in ours] == list(range(7))
    assert [t.state for t in theirs] == [TrialState.FAIL if n in (2, 3) else TrialState.COMPLETE for n in range(7)]
    first, outcome = theirs[0], ours[0].outcome
    assert first.value == outcome.validation_loss
    assert first.user_attrs == {
        "number": 0, "test_loss": outcome.test_loss, "test_accuracy": 0.9, "trainings": 1,
        "gradient_evaluations": 600.0, "seconds": 2.0, "report.movement": 0.25,
    }  # fmt: skip
    assert first.intermediate_values == {10: first.value + 1, 20: math.inf, 30: first.value}
    assert theirs[2].value is theirs[3].value is None
    assert theirs[2].user_attrs["failure"] == "its validation loss is inf"
    assert theirs[3].user_attrs["failure"] == "it overflowed at step 7"
    assert "test_loss" not in theirs[2].user_attrs
    assert math.isnan(theirs[3].intermediate_values[20])


def test_values_are_parameters_within_their_range_and_large_groups_a_summary(ledger, target):
    to_optuna.write(ledger, recorded.NAME, target)
    trial = loaded(target).trials[1]
    values = ledger.trials(recorded.NAME, recorded.SAMPLER)[1].proposal.values
    assert trial.params == {
        **{f"l2[{i}]": value for i, value in enumerate(values["l2"])}, "learning_rate": values["learning_rate"][0],
    }  # fmt: skip
    assert trial.distributions["l2[2]"] == optuna.distributions.FloatDistribution(1e-6, 1.0, log=True)
    assert trial.distributions["learning_rate"] == optuna.distributions.FloatDistribution(0.0, 0.5)
    large = ledger.trials(recorded.NAME, recorded.DESCENT)[1].proposal.values["l2"]
    spread = {"l2.min": large.min(), "l2.median": np.median(large), "l2.max": large.max()}
    params = loaded(target, recorded.DESCENT).trials[1].params
    assert {name: params[name] for name in params if name != "learning_rate"} == spread


def test_whole_vectors_are_an_artifact_bit_by_bit(ledger, target, tmp_path):
    to_optuna.write(ledger, recorded.NAME, target)
    study = loaded(target, recorded.DESCENT)
    (note,) = get_all_artifact_meta(study.trials[0], storage=study._storage)
    store = FileSystemArtifactStore(tmp_path / recorded.ARTIFACTS)
    download_artifact(artifact_store=store, artifact_id=note.artifact_id, file_path=str(tmp_path / note.filename))
    kept = np.load(tmp_path / "arrays.npz")
    trial = ledger.trials(recorded.NAME, recorded.DESCENT)[0]
    assert set(kept) == {f"{part}/{n}" for part in ("values", "hypergradient", "ends") for n in trial.proposal.values}
    for name, vector in trial.proposal.values.items():
        assert kept[f"values/{name}"].tobytes() == vector.tobytes()
        assert kept[f"hypergradient/{name}"].tobytes() == trial.outcome.hypergradient[name].tobytes()


def test_times_are_those_of_the_trial(ledger, target):
    to_optuna.write(ledger, recorded.NAME, target)
    records = ledger.figures(recorded.NAME)[recorded.SAMPLER]
    for trial, record in zip(loaded(target).trials, records[:-1], strict=True):
        assert trial.datetime_start.astimezone() == record.opened
        assert trial.datetime_complete.astimezone() == record.closed


def test_the_ledger_and_optuna_share_a_database(url, tmp_path):
    with Ledger.open(url) as ledger:
        recorded.recorded(ledger)
        before = ledger.figures(recorded.NAME)
        to_optuna.write(ledger, recorded.NAME, url, tmp_path / "kept")
        assert repr(ledger.figures(recorded.NAME)) == repr(before)
    with stored.opened(url, create=False) as storage:
        study = loaded(storage)
        study.optimize(lambda trial: trial.suggest_float("learning_rate", 0.0, 0.5), n_trials=1)
        assert len(study.trials) == 8
    with Ledger.open(url) as ledger:
        recorded.begun(ledger, "another")
        assert [s.name for s in ledger.studies()] == [recorded.NAME, "another"]


def test_a_name_that_is_taken_leaves_everything_as_it_was(ledger, target, tmp_path):
    optuna.create_study(study_name="digits/wide/0", storage=target)
    with pytest.raises(BadInput, match=r"holds a study 'digits/wide/0' of Optuna: delete it there, or give another"):
        to_optuna.write(ledger, recorded.NAME, target)
    assert optuna.get_all_study_names(target) == ["digits/wide/0"]
    assert not (tmp_path / recorded.ARTIFACTS).exists()


def test_what_fails_half_way_is_undone(ledger, target, tmp_path):
    with sqlite3.connect(tmp_path / "optuna.db") as connection:
        optuna.storages.RDBStorage(target)
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON trials WHEN (SELECT COUNT(*) FROM trials) = 9 "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    connection.close()
    with pytest.raises(BadStorage, match=r"optuna\.db: the database says: the disk is full"):
        to_optuna.write(ledger, recorded.NAME, target)
    assert optuna.get_all_study_names(target) == []
    assert not (tmp_path / recorded.ARTIFACTS).exists()


def test_a_study_without_finished_trials(ledger, target, tmp_path):
    recorded.begun(ledger, "early")
    with pytest.raises(BadInput, match="early has no finished trial yet: run it first"):
        to_optuna.write(ledger, "early", target)
    assert not (tmp_path / "optuna.db").exists()


def test_a_folder_that_cannot_be_made_or_written(ledger, target, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file/under: cannot be made \(Not a directory\): give a path in a folder"):
        to_optuna.write(ledger, recorded.NAME, target, tmp_path / "file" / "under")
    with pytest.raises(BadInput, match=r"/proc: cannot be written \("):  # nobody can, not even root
        to_optuna.write(ledger, recorded.NAME, target, Path("/proc"))
    assert optuna.get_all_study_names(target) == []


@pytest.mark.parametrize("address", ["postgresql://me:secret@127.0.0.1:1/none", "sqlite:///file:x.db?uri=true"])
def test_other_databases_have_no_folder_beside_them(ledger, address):
    with pytest.raises(BadInput, match="no folder beside this database: give one with --artifacts") as refused:
        to_optuna.write(ledger, recorded.NAME, address)
    assert "secret" not in str(refused.value)


def test_a_server_that_does_not_answer_is_named_without_its_password(ledger, tmp_path):
    with pytest.raises(BadStorage, match=r"me:\*\*\*@127\.0\.0\.1:1/none: the database says: ") as refused:
        to_optuna.write(ledger, recorded.NAME, "postgresql://me:secret@127.0.0.1:1/none", tmp_path / "kept")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tables_of_another_program_are_left_alone(ledger, tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")
    connection.close()
    with pytest.raises(BadStorage, match=r"another program's tables have the names of Optuna's \(trials\)"):
        to_optuna.write(ledger, recorded.NAME, f"sqlite:///{tmp_path}/other.db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("trials",)]
    connection.close()


def test_a_database_of_another_optuna(ledger, target, tmp_path):
    optuna.storages.RDBStorage(target)
    engine = create_engine(make_url(target))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9.9.9'"))
    engine.dispose()
    with pytest.raises(BadStorage, match="Optuna says: The runtime optuna version"):
        to_optuna.write(ledger, recorded.NAME, target)


def test_braces_in_a_file_name(ledger, tmp_path):
    url = f"sqlite:///{tmp_path}/{{a}}.db"
    to_optuna.write(ledger, recorded.NAME, url)
    assert (tmp_path / "{a}.db").exists()
    with stored.opened(url, create=False) as storage:
        assert len(loaded(storage).trials) == 7
