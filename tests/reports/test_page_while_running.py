"""The page of a study that other runs work on while it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import page_study
from reading_pages import Page

from hpo.reports import page
from hpo.reports.figures import draw
from hpo.reports.gathering import gather
from hpo.storage.ledger import Ledger


class Moving(Ledger):
    """While it is read another run adds seeds and closes trials, better ones than there were."""

    added = 0

    def figures(self, study: str) -> Any:
        self.added += 1
        with Ledger.open(self.url) as other:
            page_study.fill(other, f"meanwhile-{self.added}", trials=1, seeds=1)
            other.begin(page_study.study(study, seeds=6 + self.added), {})
            with other.attend(study, 1) as lease:
                for label in ("drmad/1", "drmad/2"):
                    number = other.standing(study)[label].next_number
                    page_study.close(other, lease, label, number, 0.001 / self.added)
        return super().figures(study)

    def trials(self, study: str, arm: str, **which: Any) -> Any:
        self.figures(study)
        return super().trials(study, arm, **which)


def test_a_study_that_is_being_run_is_reported_as_it_was_at_one_moment(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    with Ledger.open(url) as ledger:
        page_study.fill(ledger, "s")
    with Moving.open(url) as ledger:
        contents = gather(ledger, ["s"])
        assert ledger.added > 5
    found = Page(page.rendered(contents, draw(contents)))
    assert contents["studies"][0]["arms"] == len(contents["compared"]["arms"]) == len(found.tables["arms-table"]) - 1
    closed = sum(n for state, n in contents["studies"][0]["trials"].items() if state != "running")
    assert closed == sum(arm["trials"] for arm in contents["compared"]["arms"])
    assert closed == sum(m["count"] for m in contents["timeline"]["marks"] if m["state"] != "running")
    best = {a["label"]: a["best_trial"] for a in contents["compared"]["arms"]}
    assert all(best[curve["arm"]] == curve["trial"] for curve in contents["learning"]["curves"])
