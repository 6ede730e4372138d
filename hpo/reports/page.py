"""One self-contained page about one or more studies: it opens offline, asks no network for anything, can be printed.

page.write(gather(ledger, ["digits"]), Path("digits.html"))
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hpo.failures import BadInput
from hpo.reports import units
from hpo.reports.figures import Drawn, colours, draw, shown

Json = Mapping[str, Any]
HERE = Path(__file__).parent

BLANK = -(2**15)
"""What stands in a frame for a value there is none of."""


def write(contents: Json, file: Path) -> None:
    """Write the page of what `gathering.gather` read. Raises BadInput if the file cannot be written."""
    page = rendered(contents, draw(contents))
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file}: cannot be written ({error.strerror}); give a path in a folder that exists") from error


def rendered(contents: Json, drawn: Mapping[str, Drawn]) -> str:
    """The page as HTML. Figures, frames and tables hold every number once, in full where a table rounds it."""
    room = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    room.filters |= {
        "figure": units.figure, "count": units.count, "duration": units.duration, "signed": _signed,
        "percent": _percent, "p": _p, "quoted": shlex.quote, "words": _words,
    }  # fmt: skip
    figures = {name: _plain(d) for name, d in drawn.items()}
    return room.get_template("page.html").render(
        **contents,
        ink=colours(contents),
        drawn=drawn,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        figures=_embedded(figures),
        frames=_embedded(_frames(contents)),
    )


def _plain(drawn: Drawn) -> Json:
    found = drawn.figure.to_plotly_json()
    found["layout"].pop("template", None)
    return found


def _embedded(value: object) -> Markup:
    """JSON that may stand in a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))


def _frames(contents: Json) -> Json:
    """The images of every meta-iteration by panel: 16-bit thousandths of a decade (0.23 %), little-endian, base64."""
    found = {}
    for i, panel in enumerate(contents["panels"]["panels"]):
        if (images := panel["images"]) is not None:
            frames = np.rint(1000 * np.array(images["frames"], dtype=float))
            packed = np.where(np.isfinite(frames), np.clip(frames, BLANK + 1, -BLANK - 1), BLANK).astype("<i2")
            found[f"descent-{i}-pixels"] = {
                "shape": images["shape"],
                "numbers": panel["numbers"],
                "validation": panel["validation"],
                "shown": shown(panel),
                "values": base64.b64encode(packed.tobytes()).decode("ascii"),
            }
    return found


def _signed(value: float | None) -> str:
    return units.NONE if value is None else f"{value:+.3g}".replace("-", "−")


def _percent(value: float | None) -> str:
    return units.NONE if value is None else f"{100 * value:.1f} %".replace("-", "−")


def _p(value: float | None) -> str:
    return units.NONE if value is None else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _words(name: str) -> str:
    return name.replace("_", " ")
