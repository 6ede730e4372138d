"""What a study is checked against before anything of it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies_small import study

import hpo
from hpo import preparation
from hpo.failures import BadInput
from hpo.space import Space
from hpo.storage.ledger import Ledger


def test_a_descent_that_goes_on_with_other_settings_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = study(methods=["drmad", {"name": "random", "per": "global"}], seeds=1)
    with preparation.prepared(small, None) as ready, Ledger.open(f"sqlite:///{tmp_path / 'hpo.db'}") as ledger:
        preparation.store(ready, ledger, {})
        preparation.store(ready, ledger, {})  # the same again
        kept = {arm.label: arm.settings for arm in ledger.arms("small")}
        space: Space = ready.plans["drmad/0"].space
        earlier = {key: value for key, value in kept["drmad/0"].items() if key != "prior"}  # of an hpo that knew less
        ledger.describe("small", "drmad/0", space, {**earlier, "step": "adam"})
        ledger.describe("small", "random-global/0", ready.plans["random-global/0"].space, {"optuna": "0.1"})
        assert caplog.messages == []
        preparation.store(ready, ledger, {})
        assert caplog.messages == [
            "drmad/0 goes on with step 'layered', as this hpo has it; its trials so far were made with 'adam'"
        ]
        assert {arm.label: arm.settings for arm in ledger.arms("small")} == kept


def test_what_is_no_study_and_what_is_no_name_are_refused() -> None:
    with pytest.raises(BadInput, match="study: 3 is neither a path, nor the content of a study file, nor a Study"):
        hpo.run(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match=r"sqlite:///few.db is the address of a database: give it as storage="):
        hpo.compare("few", "sqlite:///few.db")
