"""How long the page of a study of 10,000 trials takes to write, and to open in Chromium with every figure drawn.

PYTHONPATH=.:tests python tests/benchmarks/page_opening.py
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import page_study
from playwright.sync_api import sync_playwright

from hpo.reports import page
from hpo.reports.gathering import gather
from hpo.storage.ledger import Ledger

TIMES = 112
"""18 arms of 5 trials, so often."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url, file = f"sqlite:///{folder}/hpo.db", Path(folder) / "page.html"
        with Ledger.open(url) as ledger:
            page_study.fill(ledger, "many")
        page_study.multiply(url, TIMES)
        with Ledger.open(url, create=False) as ledger:
            begun = time.perf_counter()
            page.write(gather(ledger, ["many"]), file)
        print(f"{18 * 5 * TIMES} trials: {file.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - begun:.2f} s")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for _ in range(5):
                tab = browser.new_page(viewport={"width": 1280, "height": 900})
                begun = time.perf_counter()
                tab.goto(file.as_uri())
                tab.wait_for_selector("html[data-drawn]")
                print(f"open, every figure drawn, in {time.perf_counter() - begun:.2f} s")
                tab.close()
            browser.close()


if __name__ == "__main__":
    main()
