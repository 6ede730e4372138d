"""Trials of Optuna become the past of an arm: the same numbers, and nothing that does not fit."""

from __future__ import annotations

import math

import optuna
import pytest
import recorded
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from hpo.failures import BadInput, BadStorage
from hpo.interop import from_optuna, to_optuna
from hpo.storage.ledger import Ledger
from hpo.storage.records import described
from hpo.trial import Cost

GROUPS = described(recorded.space(2))
FITS = {"l2[0]": 0.1, "l2[1]": 1, "learning_rate": 0.0}


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as opened:
        yield opened


@pytest.fixture
def exported(ledger, tmp_path):
    """The URL of a database with an exported study."""
    recorded.recorded(ledger)
    url = f"sqlite:///{tmp_path}/optuna.db"
    to_optuna.write(ledger, recorded.NAME, url)
    return url


@pytest.fixture
def target(tmp_path):
    return f"sqlite:///{tmp_path}/theirs.db"


def stored(url, *trials, name="theirs", **how):
    study = optuna.create_study(study_name=name, storage=url, **how)
    study.add_trials(trials)
    return study


def made(value=1.0, **params):
    params = FITS | params
    spaces = {
        name: CategoricalDistribution([given]) if isinstance(given, bool | str) else FloatDistribution(-9.0, 9.0)
        for name, given in params.items()
    }
    return create_trial(value=value, params=params, distributions=spaces)


def same_bits(found, given):
    return {n: v.tobytes() for n, v in found.items()} == {n: v.tobytes() for n, v in given.items()}


@pytest.mark.parametrize("arm", recorded.SPACES)
def test_what_was_exported_comes_back_bit_by_bit(ledger, exported, arm):
    past = from_optuna.read(exported, f"digits/{arm}", described(recorded.SPACES[arm]))
    usable = [t for t in ledger.trials(recorded.NAME, arm) if t.outcome is not None and t.outcome.usable]
    assert len(past.trials) == len(usable) == 5
    assert past.skipped == 2
    for found, given in zip(past.trials, usable, strict=True):
        assert found.number == given.number
        assert same_bits(found.proposal.values, given.proposal.values)
        assert found.outcome.validation_loss == given.outcome.validation_loss
        assert found.outcome.cost == Cost(0, 0.0, 0.0)
        assert math.isnan(found.outcome.test_loss)
        assert found.outcome.usable and not len(found.outcome.curve)


def test_only_complete_trials_are_taken_and_an_infinite_value_is_a_failure(target):
    waiting = create_trial(state=TrialState.WAITING)
    pruned = create_trial(state=TrialState.PRUNED, params={}, distributions={})
    stored(target, made(), waiting, pruned, made(value=math.inf), create_trial(state=TrialState.RUNNING), made(2.0))
    past = from_optuna.read(target, "theirs", GROUPS)
    assert [t.number for t in past.trials] == [0, 3, 5]
    assert [t.state for t in past.trials] == ["complete", "failed", "complete"]
    assert past.trials[1].outcome.failure == "its value in Optuna is inf"
    assert past.skipped == 3
    assert past.trials[0].proposal.values["l2"].tolist() == [0.1, 1.0]


def test_a_pruned_trial_brings_what_it_reported(target):
    whole = made()
    told = {"params": whole.params, "distributions": whole.distributions, "intermediate_values": {20: 0.5, 10: 0.75}}
    stored(target, whole, create_trial(state=TrialState.PRUNED, **told))
    past = from_optuna.read(target, "theirs", GROUPS)
    assert [t.state for t in past.trials] == ["complete", "pruned"]
    outcome = past.trials[1].outcome
    assert outcome.validation_loss == 0.5 and math.isnan(outcome.test_loss)
    assert outcome.curve[:, ::2].tolist() == [[10.0, 0.75], [20.0, 0.5]]
    assert outcome.cost == Cost(0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"l2[1]": 2.0}, r"trial 0 of theirs: l2\[1\] is 2\.0: give a number between 1e-06 and 1"),
        ({"learning_rate": -0.1}, r"learning_rate is -0\.1: give a number between 0 and 0\.5"),
        ({"l2[0]": "small"}, r"l2\[0\] is 'small': give a number"),
        ({"l2[0]": True}, r"l2\[0\] is True: give a number"),
        ({"dropout": 0.5}, r"the arm has no parameter 'dropout': expected l2\[0\] … l2\[1\], learning_rate"),
    ],
)
def test_what_does_not_fit_is_named(target, changes, said):
    stored(target, made(**changes))
    with pytest.raises(BadInput, match=said):
        from_optuna.read(target, "theirs", GROUPS)


@pytest.mark.parametrize("size", [1, 2, recorded.MANY])
def test_a_missing_parameter_is_named_with_what_is_expected(target, size):
    stored(target, create_trial(value=1.0, params={}, distributions={}))
    expected = {
        1: "'l2' is missing: expected l2, learning_rate",
        2: r"'l2\[0\]' is missing: expected l2\[0\] … l2\[1\], learning_rate",
        recorded.MANY: r"'l2\[0\]' is missing: expected l2\[0\] … l2\[71\] or arrays\.npz, learning_rate",
    }
    with pytest.raises(BadInput, match=f"trial 0 of theirs: parameter {expected[size]}"):
        from_optuna.read(target, "theirs", described(recorded.space(size)))


def test_an_artifact_of_another_size_does_not_fit(exported):
    with pytest.raises(BadInput, match=r"trial 0 of digits/drmad/0: parameter 'l2\[0\]' is missing"):
        from_optuna.read(exported, "digits/drmad/0", described(recorded.space(recorded.MANY + 1)))


def test_an_artifact_that_is_elsewhere_or_broken(exported, tmp_path):
    groups, kept = described(recorded.SPACES[recorded.DESCENT]), tmp_path / recorded.ARTIFACTS
    with pytest.raises(BadInput, match="is not in .*elsewhere: give the one with --artifacts"):
        from_optuna.read(exported, "digits/drmad/0", groups, tmp_path / "elsewhere")
    kept.rename(tmp_path / "elsewhere")
    assert len(from_optuna.read(exported, "digits/drmad/0", groups, tmp_path / "elsewhere").trials) == 5
    for file in (tmp_path / "elsewhere").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"cannot be read \(.*\): export it again"):
        from_optuna.read(exported, "digits/drmad/0", groups, tmp_path / "elsewhere")


@pytest.mark.parametrize("directions", [["maximize"], ["minimize", "maximize"]])
def test_only_one_value_to_minimize(target, directions):
    stored(target, directions=directions)
    with pytest.raises(BadInput, match=f"its direction is {' and '.join(directions)}: a validation loss"):
        from_optuna.read(target, "theirs", GROUPS)


def test_a_study_that_is_not_there(target, tmp_path, ledger):
    stored(target)
    with pytest.raises(BadInput, match="unknown study of Optuna 'their': use one of theirs; did you mean 'theirs'"):
        from_optuna.read(target, "their", GROUPS)
    with pytest.raises(BadStorage, match=r"hpo\.db: holds no studies of Optuna: give the database they are in"):
        from_optuna.read(f"sqlite:///{tmp_path}/hpo.db", "theirs", GROUPS)
    with pytest.raises(BadStorage, match=r"there is no file .*none\.db"):
        from_optuna.read(f"sqlite:///{tmp_path}/none.db", "theirs", GROUPS)
    assert not (tmp_path / "none.db").exists()
