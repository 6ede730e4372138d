"""Which of Optuna's studies goes to which arm, and what the ledger keeps of it."""

from __future__ import annotations

import optuna
import pytest
import recorded

from hpo.failures import BadInput
from hpo.interop import from_optuna, stored, to_optuna
from hpo.storage.ledger import Ledger


@pytest.fixture
def exported(tmp_path):
    """The URL of a database with an exported study."""
    url = f"sqlite:///{tmp_path}/optuna.db"
    with Ledger.open(f"sqlite:///{tmp_path}/first.db") as first:
        recorded.recorded(first)
        to_optuna.write(first, recorded.NAME, url)
    return url


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as opened:
        recorded.begun(opened)
        yield opened


def test_every_black_box_arm_takes_its_own(ledger, exported, tmp_path):
    brought = from_optuna.bring(ledger, exported, recorded.NAME)
    assert brought == {"tpe-layer/0": (5, 2), "wide/0": (5, 2)}
    assert ledger.trials(recorded.NAME, recorded.DESCENT) == []
    with Ledger.open(f"sqlite:///{tmp_path}/first.db") as first:
        for label in brought:
            usable = [t for t in first.trials(recorded.NAME, label) if t.outcome and t.outcome.usable]
            found = ledger.trials(recorded.NAME, label)
            assert [t.number for t in found] == [0, 1, 2, 3, 4]
            assert [t.origin for t in found] == [f"{exported} digits/{label}"] * 5
            for ours, theirs in zip(found, usable, strict=True):
                assert ours.outcome.validation_loss == theirs.outcome.validation_loss
                for name, vector in theirs.proposal.values.items():
                    assert ours.proposal.values[name].tobytes() == vector.tobytes()


def test_imported_trials_say_so_when_they_are_exported_again(ledger, exported, tmp_path):
    from_optuna.bring(ledger, exported, recorded.NAME)
    to_optuna.write(ledger, recorded.NAME, f"sqlite:///{tmp_path}/again.db")
    again = optuna.load_study(study_name="digits/tpe-layer/0", storage=f"sqlite:///{tmp_path}/again.db")
    assert {t.user_attrs["origin"] for t in again.trials} == {f"{exported} digits/tpe-layer/0"}


def test_a_study_of_any_name_goes_to_one_arm(ledger, exported):
    brought = from_optuna.bring(ledger, exported, recorded.NAME, "wide/0", "digits/drmad/0")
    assert brought == {"wide/0": (5, 2)}
    assert len(ledger.trials(recorded.NAME, "wide/0")) == 5
    assert ledger.trials(recorded.NAME, recorded.SAMPLER) == []


def test_an_arm_takes_its_own_where_only_that_is_there(ledger, exported):
    optuna.delete_study(study_name="digits/wide/0", storage=exported)
    assert from_optuna.bring(ledger, exported, recorded.NAME) == {"tpe-layer/0": (5, 2)}


def test_one_study_that_does_not_fit_and_nothing_is_stored(ledger, exported):
    study = optuna.load_study(study_name="digits/wide/0", storage=exported)
    study.add_trial(optuna.create_trial(value=1.0, params={}, distributions={}))
    with pytest.raises(BadInput, match="trial 7 of digits/wide/0: parameter"):
        from_optuna.bring(ledger, exported, recorded.NAME)
    assert ledger.trials(recorded.NAME, recorded.SAMPLER) == []


def test_nothing_comes_in_twice(ledger, exported):
    from_optuna.bring(ledger, exported, recorded.NAME, "wide/0")
    with pytest.raises(BadInput, match=r"wide/0 of digits has these trials already, .*; import into tpe-layer/0 with"):
        from_optuna.bring(ledger, exported, recorded.NAME)
    assert ledger.trials(recorded.NAME, recorded.SAMPLER) == []
    from_optuna.bring(ledger, exported, recorded.NAME, recorded.SAMPLER)
    with pytest.raises(BadInput, match="tpe-layer/0, wide/0 of digits has these trials already, nothing was imported$"):
        from_optuna.bring(ledger, exported, recorded.NAME)
    assert len(ledger.trials(recorded.NAME, recorded.SAMPLER)) == 5


@pytest.mark.parametrize(
    ("arm", "optuna_study", "said"),
    [
        ("tpe/0", None, "study 'digits': unknown arm 'tpe/0': use one of drmad/0, tpe-layer/0, wide/0"),
        ("drmad/0", None, "drmad/0 decides by hypergradients, .* arms of digits are tpe-layer/0, wide/0"),
        (None, "digits/wide/0", "'digits/wide/0' can go to one arm only: say which with --arm: tpe-layer/0, wide/0"),
        ("wide/0", "digits/wide", "unknown study of Optuna 'digits/wide': .*did you mean 'digits/wide/0'"),
    ],
)
def test_what_cannot_be_brought(ledger, exported, arm, optuna_study, said):
    with pytest.raises(BadInput, match=said):
        from_optuna.bring(ledger, exported, recorded.NAME, arm, optuna_study)


def test_a_study_that_has_not_begun_has_no_space_yet(ledger, exported):
    ledger.begin(recorded.study("early"), {})
    with pytest.raises(
        BadInput, match="early: the space of tpe-layer/0, wide/0 is not known before the study has begun"
    ):
        from_optuna.bring(ledger, exported, "early")


def test_where_trials_come_from_is_kept_without_a_password():
    assert stored.shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
