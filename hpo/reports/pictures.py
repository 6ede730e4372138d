"""The figures of a report as files: each as SVG and PNG, drawn by the Chromium on the PATH through Kaleido."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpo.failures import BadInput
from hpo.reports.figures import Drawn, draw
from hpo.reports.figures.look import Json, plain

WIDTH = 900
SCALE = 2
"""Of a PNG: pixels per unit of the figure."""


def write(contents: Json, folder: Path) -> int:
    """Write NAME.svg and NAME.png of every figure into `folder`, which is made; how many figures they are.

    Raises BadInput if Kaleido or a browser is missing, or the folder cannot be written.
    """
    if find_spec("kaleido") is None:
        raise BadInput("pictures need Kaleido: pip install 'hpo[figures]'")
    import kaleido
    from choreographer.browsers.chromium import ChromeNotFoundError
    from choreographer.errors import BrowserFailedError

    drawn = draw(contents)
    jobs: list[dict[str, Any]] = [
        {"fig": figure, "path": folder / f"{name}.{kind}", "opts": {"format": kind, "width": WIDTH, "scale": scale}}
        for name, figure in ((name, _titled(d)) for name, d in drawn.items())
        for kind, scale in (("svg", 1), ("png", SCALE))
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kaleido.write_fig_from_object_sync(jobs, cancel_on_error=True, kopts={"mathjax": False})
    except ChromeNotFoundError as error:
        raise BadInput("pictures need a browser: install chromium, or name one in the variable BROWSER_PATH") from error
    except BrowserFailedError as error:
        raise BadInput(
            "pictures need a browser, and the one there is ended as it began: try chromium --headless"
        ) from error
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); give a path that can be a folder") from error
    return len(drawn)


def _titled(drawn: Drawn) -> dict[str, Any]:
    """On white, with its title above the legend: a file stands alone."""
    figure = drawn.figure.to_plotly_json()
    layout = figure["layout"]
    named = sum("name" in trace and trace.get("showlegend", True) for trace in figure["data"])
    room = 50 + 22 * math.ceil(named / 5)
    height = layout["height"] + room
    title = {"text": plain(drawn.says), "font": {"size": 15}, "x": 0.01, "xanchor": "left", "y": 1 - 20 / height}
    above = {"paper_bgcolor": "#ffffff", "title": title, "height": height, "margin": layout["margin"] | {"t": room}}
    return figure | {"layout": layout | above}
