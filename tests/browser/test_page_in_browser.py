"""The page in Debian's Chromium: it opens without a fault and without a request, and its controls do what they say."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_study
import pytest

from hpo.reports import page as pages
from hpo.reports.gathering import gather
from hpo.storage.ledger import Ledger

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
    missing = "chromium (apt-get install chromium)" if CHROMIUM is None else "playwright (pip install playwright)"
    pytest.skip(f"the page is not tried in a browser: there is no {missing}", allow_module_level=True)

PLOT = "document.querySelector('[data-figure=\"{}\"] .plot')"
SLOW = 60_000
"""Milliseconds to wait for a browser on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about two studies, one of them of images."""
    folder = tmp_path_factory.mktemp("page")
    with Ledger.open(f"sqlite:///{folder / 'hpo.db'}") as ledger:
        page_study.fill(ledger, "digits")
        page_study.fill(ledger, "wine", problem={"data": "wine"}, inputs=page_study.TABLE, seeds=2)
        pages.write(gather(ledger, ["digits", "wine"]), folder / "page.html")
    return folder / "page.html"


class Opened:
    """The page at some width and colour scheme, and everything it complained about or asked for."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str) -> None:
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.tab.set_default_timeout(SLOW)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(file.as_uri())
        self.tab.wait_for_selector("html[data-drawn]")

    def ask(self, question: str) -> Any:
        return self.tab.evaluate(question)

    def drawn(self) -> int:
        """Figures that hold a plot."""
        return self.ask("[...document.querySelectorAll('.plot')].filter(p => p.querySelector('.main-svg')).length")


@pytest.fixture(params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], ids=str)
def opened(request: pytest.FixtureRequest, browser: Any, file: Path) -> Iterator[Opened]:
    found = Opened(browser, file, *request.param)
    yield found
    assert found.complaints == []
    found.tab.close()


@pytest.fixture
def wide(browser: Any, file: Path) -> Iterator[Opened]:
    found = Opened(browser, file, 1280, "light")
    yield found
    assert found.complaints == []
    found.tab.close()


def test_it_opens_alone_and_fits(opened: Opened, file: Path) -> None:
    assert [url for url in opened.requests if not url.startswith("data:")] == [file.as_uri()]
    assert (
        opened.drawn()
        == opened.ask("[...document.querySelectorAll('figure')].filter(f => f.checkVisibility()).length")
        > 10
    )
    closed = opened.tab.locator(".panel:not([open]) summary")
    assert closed.count() == 1
    closed.click()
    opened.tab.wait_for_function("[...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))")
    assert opened.ask("document.documentElement.scrollWidth <= innerWidth")
    outside = """[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg')
                 && e.getBoundingClientRect().right > innerWidth + 1).length"""
    assert opened.ask(outside) == 0


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two CSS colours."""

    def luminance(color: str) -> float:
        parts = [int(x) / 255 for x in re.findall(r"\d+", color)[:3]]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_it_is_legible(opened: Opened) -> None:
    ground = opened.ask("getComputedStyle(document.body).backgroundColor")
    for part, property in (("h1", "color"), (".note", "color"), ("td", "color"), (".xtick text", "fill")):
        ink = opened.ask(f"getComputedStyle(document.querySelector('{part}')).{property}")
        assert contrast(ink, ground) >= 4.5, part
    lines = opened.ask("[...document.querySelectorAll('.legend path')].map(l => getComputedStyle(l).stroke)")
    assert len(lines) > 10
    assert min(contrast(line, ground) for line in lines) >= 3


def test_the_colours_can_be_chosen(wide: Opened) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = wide.ask(ground)
    wide.tab.get_by_text("dark", exact=True).click()
    dark = wide.ask(ground)
    assert contrast(light, dark) > 10
    assert contrast(wide.ask("getComputedStyle(document.querySelector('.xtick text')).fill"), dark) >= 4.5
    wide.tab.get_by_text("light", exact=True).click()
    assert wide.ask(ground) == light


def test_the_slider_moves_the_image(wide: Opened) -> None:
    image = PLOT.format("descent-0-pixels") + ".data[0].z.flat()"
    slider = wide.tab.locator("[data-figure=descent-0-pixels] input[type=range]")
    output = wide.tab.locator("[data-figure=descent-0-pixels] output")
    assert "meta-iteration 4, selected; validation loss 0." in output.inner_text()
    selected = wide.ask(image)
    slider.press("Home")
    wide.tab.wait_for_function(f"{image}.some(v => Math.abs(v + 3) < 0.5)")
    first = wide.ask(image)
    assert "meta-iteration 0;" in output.inner_text()
    assert first != selected
    assert max(abs(v + 3) for v in first) < 1 < max(abs(v + 3) for v in selected)
    slider.press("End")
    assert wide.ask(image) == pytest.approx(selected, abs=1e-3)


def test_the_unit_changes_the_curves(wide: Opened) -> None:
    slot = wide.tab.locator("[data-figure='best-so-far-*-*']")
    end = PLOT.format("best-so-far-*-*") + ".data.at(-1).x.at(-1)"
    title = PLOT.format("best-so-far-*-*") + ".layout.xaxis.title.text"
    seen = {}
    for unit in ("trainings", "seconds", "gradient evaluations"):
        slot.get_by_text(unit, exact=True).click()
        seen[unit] = wide.ask(end)
        assert wide.ask(title) == f"{unit} spent by an arm"
    assert seen["trainings"] == 5
    assert seen["seconds"] < seen["trainings"] < seen["gradient evaluations"]
    loss = PLOT.format("best-so-far-*-*") + ".layout.yaxis.title.text"
    slot.get_by_text("validation", exact=True).click()
    assert "validation loss" in wide.ask(loss)


def test_the_legend_hides_a_method(wide: Opened) -> None:
    shown = PLOT.format("best-so-far-*-*") + ".data.filter(t => t.visible !== false).length"
    button = wide.tab.locator("[data-figure='best-so-far-*-*'] .legend button").first
    before = wide.ask(shown)
    button.click()
    assert wide.ask(shown) == before - 3  # a line and the two edges of its band
    button.click()
    assert wide.ask(shown) == before


def test_it_can_be_printed(opened: Opened) -> None:
    opened.tab.emulate_media(media="print")
    assert opened.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    seen = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility()).length"
    assert opened.ask(seen.format(".controls, nav, input")) == 0
    assert opened.ask(seen.format(".plot")) == opened.drawn()
    assert opened.ask("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
    assert opened.tab.pdf().startswith(b"%PDF")
    assert opened.drawn() == opened.ask("document.querySelectorAll('[data-figure]').length")  # closed parts as well
