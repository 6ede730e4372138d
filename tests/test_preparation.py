"""What a study is checked against before anything of it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies_small import study

import hpo
from hpo import preparation
from hpo.failures import BadInput, BadStudy
from hpo.space import Space
from hpo.storage.ledger import Ledger


def test_a_descent_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    small = study(methods=["drmad", {"name": "random", "per": "global"}], seeds=1)
    with preparation.prepared(small, None) as ready, Ledger.open(f"sqlite:///{tmp_path / 'hpo.db'}") as ledger:
        preparation.store(ready, ledger, {})
        preparation.store(ready, ledger, {})  # the same again
        kept = {arm.label: arm.settings for arm in ledger.arms("small")}
        space: Space = ready.plans["drmad/0"].space
        ledger.describe("small", "drmad/0", space, {**kept["drmad/0"], "step": "adam"})
        with pytest.raises(BadStudy) as refused:
            preparation.store(ready, ledger, {})
        assert str(refused.value) == (
            "methods.drmad: its trials were made with step 'adam', which is 'layered' in this hpo: "
            "give the study another name"
        )
        assert ledger.arms("small")[0].settings["step"] == "adam"  # what was recorded stays
        earlier = {key: value for key, value in kept["drmad/0"].items() if key != "prior"}
        ledger.describe("small", "drmad/0", space, earlier)  # of an hpo that knew less
        preparation.store(ready, ledger, {})
        ledger.describe("small", "random-global/0", ready.plans["random-global/0"].space, {"optuna": "0.1"})
        preparation.store(ready, ledger, {})  # a black box is told values and losses alone
        assert ledger.arms("small")[0].settings == kept["drmad/0"]


def test_what_is_no_study_and_what_is_no_name_are_refused() -> None:
    with pytest.raises(BadInput, match="study: 3 is neither a path, nor the content of a study file, nor a Study"):
        hpo.run(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match=r"sqlite:///few.db is the address of a database: give it as storage="):
        hpo.compare("few", "sqlite:///few.db")
