"""The figures: what they show of given numbers, the same colour for a method everywhere, files of them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import page_study
import pytest
from click.testing import CliRunner

from hpo.cli import main
from hpo.reports import figures
from hpo.reports.figures import hyperparameters, look
from hpo.reports.figures.critical_difference import critical_difference
from hpo.reports.figures.curves import best_so_far, ranks
from hpo.reports.figures.pixels import columns, pixels
from hpo.reports.gathering import gather
from hpo.storage.ledger import Ledger

INK = look.inks(["a", "b"])
BAND = {"median": [None, 0.4, 0.2], "low": [None, 0.3, 0.1], "high": [None, 0.5, 0.2]}
CURVES = {"a": {"trainings": {"at": [1, 2, 3], "test": BAND, "validation": BAND}}}


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, Any]:
    with Ledger.open(f"sqlite:///{tmp_path / 'hpo.db'}") as ledger:
        page_study.fill(ledger, "digits")
        return gather(ledger, ["digits"])


def lightness(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", [*look.PALETTE, look.FAILED, look.PRUNED, look.FAINT])
def test_colours_stand_out_from_light_and_dark(color: str) -> None:
    assert 1.05 / (lightness(color) + 0.05) >= 3
    assert (lightness(color) + 0.05) / (lightness("#14171b") + 0.05) >= 3


def test_no_two_of_thirty_methods_look_the_same() -> None:
    inks = look.inks([str(i) for i in range(30)] + ["0"])
    assert len(set(inks.values())) == len(inks) == 30
    assert inks["1"].faint == "rgba(217,115,13,0.16)"


def test_a_curve_begins_with_the_first_incumbents() -> None:
    drawn = best_so_far({"curves": CURVES, "scale": "test_loss"}, "trainings", "test", INK)
    assert drawn is not None
    low, high, line = drawn.data
    assert (list(line.x), list(line.y)) == ([2, 3], [0.4, 0.2])
    assert (list(low.y), list(high.y)) == ([0.3, 0.1], [0.5, 0.2])
    assert line.line.shape == low.line.shape == "hv"
    assert drawn.layout.yaxis.title.text == "test loss of the best so far"
    nothing = {key: [None] * 3 for key in BAND}
    empty = {"a": {"trainings": {"at": [1, 2, 3], "test": nothing}}}
    assert best_so_far({"curves": empty, "scale": "test_loss"}, "trainings", "test", INK) is None


def test_ranks_need_two_methods() -> None:
    both = {"at": [1, 2], "methods": {"a": [1.5, 1.0], "b": [1.5, 2.0]}}
    drawn = ranks({"ranks": {"seconds": both}}, "seconds", INK)
    assert drawn is not None
    assert [list(trace.y) for trace in drawn.data] == [[1.5, 1.0], [1.5, 2.0]]
    alone = {"at": [1], "methods": {"a": [1.0], "b": [None]}}
    assert ranks({"ranks": {"seconds": alone}}, "seconds", INK) is None


def test_a_critical_difference() -> None:
    found = {"difference": 1.2, "ranks": {"b": 2.0, "a": 1.0}, "groups": [["a", "b"]]}
    drawn = critical_difference({"critical_difference": found}, INK)
    assert drawn is not None
    assert drawn.layout.yaxis.ticktext == ("a", "b")
    bar, ruler, dots = drawn.data
    assert dots.x == (1.0, 2.0)
    assert dots.marker.color == tuple(INK[title].color for title in "ab")
    assert ruler.x == (1.0, 2.2)
    assert bar.y[0] < 0 < 1 < bar.y[1]
    assert critical_difference({"critical_difference": {"difference": None}}, INK) is None


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.3, 0.4], None),
        ([-1.0, 5.0], None),
        ([], None),
        ([0.02, 0.9, None], ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"]),
        ([1e-6, 1.0], ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]),
    ],
)
def test_an_axis_is_logarithmic_where_that_helps(values: list[float | None], ticks: list[str] | None) -> None:
    assert look.spread_axis(values, "x").get("ticktext") == ticks


def test_rounding_keeps_gaps() -> None:
    assert look.rounded([0.123456, None, np.inf, np.nan, 12345.6]) == [0.1235, None, None, None, 12350.0]


def test_a_method_has_one_colour_everywhere(contents: dict[str, Any]) -> None:
    colours: dict[str, set[str]] = {title: set() for title in figures.colours(contents)}
    for drawn in figures.draw(contents).values():
        for trace in drawn.figure.data:
            if trace.name in colours and trace.showlegend is not False:
                colours[trace.name].add(trace.marker.color if trace.type == "bar" else trace.line.color)
    assert [len(found) for found in colours.values()] == [1, 1, 1]
    assert len(set.union(*colours.values())) == 3


def test_the_fan_holds_the_quantiles_of_the_values(contents: dict[str, Any], tmp_path: Path) -> None:
    [panel] = contents["panels"]["panels"]
    with Ledger.open(f"sqlite:///{tmp_path / 'hpo.db'}") as ledger:
        trials = {t.number: t for t in ledger.trials("digits", panel["arm"])}
    group = panel["groups"][0]
    drawn = hyperparameters.fan(panel, group)
    values = [trials[number].proposal.values["l2"] for number in panel["numbers"]]
    assert list(drawn.data[-1].y) == pytest.approx([np.median(v) for v in values], rel=1e-3)
    assert list(drawn.data[0].y) == pytest.approx([v.min() for v in values], rel=1e-3)
    assert [layer["name"] for layer in group["layers"]] == ["0.weight", "2.weight"]
    inner = [v[: page_study.SIDE**2] for v in values]
    assert group["layers"][0]["median"] == pytest.approx([np.median(v) for v in inner], rel=1e-3)
    given = trials[panel["numbers"][0]]
    assert given.outcome is not None
    assert given.outcome.hypergradient is not None
    norm = np.linalg.norm(given.outcome.hypergradient["l2"] * values[0])
    assert group["norm"][0] == pytest.approx(norm, rel=1e-3)


def test_agreement_is_drawn_where_trials_report_it(contents: dict[str, Any]) -> None:
    [panel] = contents["panels"]["panels"]
    assert hyperparameters.agreement(panel) is None
    drawn = hyperparameters.agreement(panel | {"agreement": {"cosine": [0.9, 0.95, 0.99]}})
    assert drawn is not None
    assert list(drawn.data[0].y) == [0.9, 0.95, 0.99]


def test_an_image_lies_as_its_pixels_lie() -> None:
    images = {"name": "l2", "shape": [2, 3], "frames": [[0.0] * 6, [0, 1, 2, 3, 4, 5]], "middle": -3.0, "reach": 8.0}
    [trace] = pixels(images, 1).data
    assert [list(row) for row in trace.z] == [[0, 1, 2], [3, 4, 5]]
    assert (trace.zmin, trace.zmid, trace.zmax) == (-11.0, -3.0, 5.0)


def test_colour_images_show_the_mean_over_channels(tmp_path: Path) -> None:
    inputs = page_study.InputRow((4, 2, 2))
    with Ledger.open(f"sqlite:///{tmp_path / 'hpo.db'}") as ledger:
        page_study.fill(ledger, "color", inputs=inputs, methods=["drmad"], seeds=1)
        [panel] = gather(ledger, ["color"])["panels"]["panels"]
        last = ledger.trials("color", "drmad/0")[panel["numbers"][-1]].proposal.values["l2"][:16]
    images = panel["images"]
    assert (images["channels"], images["shape"]) == (4, [2, 2])
    assert images["frames"][-1] == pytest.approx(np.log10(last).reshape(4, 4).mean(axis=0), abs=1e-3)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium: apt-get install chromium")
def test_every_figure_as_a_file(tmp_path: Path, contents: dict[str, Any]) -> None:
    done = CliRunner().invoke(
        main, ["report", "digits", "--figures", str(tmp_path / "f"), "--storage", f"sqlite:///{tmp_path / 'hpo.db'}"]
    )
    names = list(figures.draw(contents))
    assert (done.exit_code, done.output) == (0, f"{tmp_path / 'f'}: {len(names)} figures, each as SVG and PNG\n")
    assert sorted(p.stem for p in (tmp_path / "f").glob("*.svg")) == sorted(names)
    for name in names:
        assert "<svg" in (tmp_path / "f" / f"{name}.svg").read_text()[:200]
        assert (tmp_path / "f" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_faults_of_pictures(tmp_path: Path, contents: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert contents["studies"][0]["name"] == "digits"

    def said(folder: Path) -> str:
        storage = f"sqlite:///{tmp_path / 'hpo.db'}"
        done = CliRunner().invoke(main, ["report", "digits", "--figures", str(folder), "--storage", storage])
        assert done.exit_code == 2
        return done.output

    file = tmp_path / "file"
    file.write_text("")
    assert said(file) == f"hpo: {file}: cannot be written (File exists); give a path that can be a folder\n"
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "nothing"))
    message = "hpo: pictures need a browser: install chromium, or name one in the variable BROWSER_PATH\n"
    assert said(tmp_path / "f") == message
    dying = tmp_path / "dying"
    dying.write_text("#!/bin/sh\nexit 1\n")
    dying.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(dying))
    message = "hpo: pictures need a browser, and the one there is ended as it began: try chromium --headless\n"
    assert said(tmp_path / "f") == message
    monkeypatch.setitem(sys.modules, "kaleido", None)
    assert said(tmp_path / "f") == "hpo: pictures need Kaleido: pip install 'hpo[figures]'\n"


NAMES = ["a & b <i>c</i> %{x}", "a column with a name of more than twenty-four characters"]


def test_names_are_shown_as_they_are() -> None:
    said = "a &amp; b &lt;i>c&lt;/i> %&#123;x}"
    assert look.plain(NAMES[0]) == said
    ink = look.inks(NAMES[:1])
    drawn = best_so_far({"curves": {NAMES[0]: CURVES["a"]}, "scale": "test_loss"}, "trainings", "test", ink)
    assert drawn is not None
    line = drawn.data[-1]
    assert (line.name, line.meta, line.legendgroup) == (said, NAMES[0], NAMES[0])
    assert line.hovertemplate.startswith(f"{said}<br>")


def test_one_point_alone_is_a_dot() -> None:
    once = {key: [0.2] for key in BAND}
    drawn = best_so_far(
        {"curves": {"a": {"trainings": {"at": [1], "test": once}}}, "scale": "test_loss"}, "trainings", "test", INK
    )
    assert drawn is not None
    assert drawn.data[-1].mode == "markers"


def test_long_names_of_columns_are_cut_and_whole_where_the_pointer_is() -> None:
    table = {"name": "l2", "numbers": [0, 1], "names": NAMES, "rows": [[0.0, 1.0]] * 2, "middle": -3.0, "reach": 8.0}
    drawn = columns(table)
    assert drawn.layout.yaxis.ticktext == (look.plain(NAMES[0]), "a column wit… characters")
    assert list(drawn.data[0].text[1]) == [NAMES[1]] * 2
    assert drawn.data[0].colorbar.orientation == "h"
