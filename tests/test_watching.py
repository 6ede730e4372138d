"""Watchers of a run: what fails among them is said once, and ends nothing."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import studies_small

import hpo
from hpo.failures import BadInput
from hpo.storage.ledger import Ledger


class Counting(hpo.Watcher):
    """Fails with the third trial it is told of, if it is to."""

    def __init__(self, error: Exception | None = None, at: str = "closed") -> None:
        self.error, self.at = error, at
        self.told: list[str] = []

    def _note(self, verb: str) -> None:
        self.told.append(verb)
        if self.error is not None and verb == self.at and self.told.count(verb) in (1, 3)[self.at == "closed" :]:
            raise self.error

    def begun(self, study: Any, arms: Sequence[Any]) -> None:
        self._note("begun")

    def closed(self, arm: Any, trial: Any) -> None:
        self._note("closed")

    def ended(self, arm: Any) -> None:
        self._note("ended")

    def stop(self) -> None:
        self._note("stop")


def run(folder: Path, *callbacks: Any) -> hpo.Result:
    study = studies_small.study(budget={"trainings": 2}, seeds=1)
    return hpo.run(study, f"sqlite:///{folder}/hpo.db", quiet=True, callbacks=callbacks)


def test_a_callback_is_told_everything(tmp_path: Path) -> None:
    counting = Counting()
    run(tmp_path, counting)
    assert counting.told[0] == "begun"
    assert counting.told[-1] == "stop"
    assert (counting.told.count("closed"), counting.told.count("ended")) == (6, 3)


@pytest.mark.parametrize(
    ("at", "when"),
    [("closed", r"at trial \d of .*/0"), ("begun", "before the first trial"), ("stop", "at the end"),
     ("ended", "at the end of .*/0")],
)  # fmt: skip
def test_one_that_fails_is_told_to_stop_and_no_more(
    tmp_path: Path, at: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = Counting(OSError(errno.ENOSPC, "No space left on device"), at), Counting()
    with caplog.at_level(logging.WARNING):
        result = run(tmp_path, failing, other)
    assert (len(result.trials), set(result.trials["state"])) == (6, {"complete"})
    assert other.told.count("closed") == 6
    assert failing.told[-2:] == [at, "stop"] if at != "stop" else failing.told[-1] == at
    assert failing.told.count("stop") == 1
    [said] = [record.getMessage() for record in caplog.records if record.name == "hpo.watching"]
    assert said.startswith("callback Counting failed ")
    assert said.endswith("(OSError: [Errno 28] No space left on device): it is told no more; the study goes on")
    assert re.search(f"failed {when} ", said)


class Leaking(hpo.Watcher):
    """Tells in its errors how it signs in."""

    def closed(self, arm: Any, trial: Any) -> None:
        raise ConnectionError("postgresql://me:s3/cr@et@host/db\nrefused token=s3cret")

    def stop(self) -> None:
        raise OSError("https://s3cret@host is gone")


def test_what_is_said_of_a_failure_is_one_line_without_credentials(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run(tmp_path, Leaking())
    [said] = [record.getMessage() for record in caplog.records if record.name == "hpo.watching"]
    assert re.fullmatch(
        r"callback Leaking failed at trial \d of .*/0 \(ConnectionError: postgresql://\*\*\*@host/db refused "
        r"token=\*\*\*, and as it stopped OSError: https://\*\*\*@host is gone\): "
        r"it is told no more; the study goes on",
        said,
    )


def test_what_the_user_can_mend_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give another file"):
        run(tmp_path, Counting(BadInput("give another file"), "begun"))
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        assert not any(ledger.figures("small").values())
        assert ledger.study("small").runs == 0


def test_something_that_is_no_watcher(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"callbacks: object has no method begun: derive it from hpo\.Watcher"):
        run(tmp_path, object())


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ("csv:x.csv", "callbacks: give a list, such as ['csv:x.csv']"),
        (Counting(), "callbacks: give a list, such as [Counting()]"),
        ([Counting], "callbacks: Counting is a class: give Counting()"),
        (["csv:x.csv", "csv:x.csv"], "logger csv:x.csv is given twice: give it once"),
    ],
)
def test_what_is_no_list_of_callbacks_is_refused(callbacks: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        hpo.run(studies_small.study(), f"sqlite:///{tmp_path / 'hpo.db'}", callbacks=callbacks, quiet=True)
    assert str(refused.value) == message
