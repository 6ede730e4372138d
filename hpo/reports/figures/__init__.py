"""The figures of a report, by name: pure functions of what `hpo.reports.gathering` read, to Plotly figures.

    drawn = figures.draw(gather(ledger, ["digits"]))
    drawn["best-so-far-test-trainings"].figure.show()

A figure of which there is nothing to show is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import plotly.graph_objects as go

from hpo.reports.figures import hyperparameters
from hpo.reports.figures.critical_difference import critical_difference
from hpo.reports.figures.curves import PARTS, best_so_far, ranks
from hpo.reports.figures.learning import learning_curves
from hpo.reports.figures.look import UNITS, Ink, Json, inks
from hpo.reports.figures.pixels import columns, pixels
from hpo.reports.figures.timeline import timeline


class Drawn(NamedTuple):
    """A figure and what it shows, in one sentence: its title wherever it stands."""

    figure: go.Figure
    says: str


def draw(contents: Json) -> dict[str, Drawn]:
    """Name → figure, in the order of a page. A name is that of a file, too: letters, digits, hyphens."""
    return {name: Drawn(figure, says) for name, figure, says in _all(contents) if figure is not None}


def colours(contents: Json) -> dict[str, Ink]:
    """Of the methods, in the order of their ranks; the same in every figure."""
    return inks(m["label"] for m in contents["compared"]["methods"])


def _all(contents: Json) -> Iterator[tuple[str, go.Figure | None, str]]:
    compared, ink = contents["compared"], colours(contents)
    for part, what in PARTS.items():
        for unit, spent in UNITS.items():
            says = f"Best so far over {spent}: {what}, median and middle half over seeds"
            yield f"best-so-far-{part}-{_file(unit)}", best_so_far(compared, unit, part, ink), says
    for unit, spent in UNITS.items():
        yield f"ranks-{_file(unit)}", ranks(compared, unit, ink), f"Mean rank by test loss over {spent}"
    yield "critical-difference", critical_difference(compared, ink), "Which methods are told apart by their mean ranks"
    yield "timeline", timeline(contents["timeline"], ink), "What every run trained, and when"
    curves = learning_curves(contents["learning"]["curves"], ink)
    yield "learning-curves", curves, "Learning curves of the selected trials: validation (solid), training (dotted)"
    for i, panel in enumerate(contents["panels"]["panels"]):
        for name, figure, says in _panel(panel):
            yield f"descent-{i}-{name}", figure, f"{says} ({panel['arm']} of {panel['study']})"


def _panel(panel: Json) -> Iterator[tuple[str, go.Figure | None, str]]:
    yield "loss", hyperparameters.validation(panel), "Validation and test loss over meta-iterations"
    for group in panel["groups"]:
        name = group["name"].replace("_", " ")
        values = f"{group['size']} values" if group["size"] > 1 else "one value"
        yield f"fan-{_file(group['name'])}", hyperparameters.fan(panel, group), f"Fan of {name}: {values}"
        layers = hyperparameters.layers(panel, group)
        yield f"layers-{_file(group['name'])}", layers, f"{name} by layer: median and middle half"
    if (images := panel["images"]) is not None:
        yield "pixels", pixels(images, shown(panel)), f"{images['name']} of every pixel at the selected meta-iteration"
    if (table := panel["columns"]) is not None:
        yield "columns", columns(table), f"{table['name']} of the input columns over meta-iterations"
    yield "norm", hyperparameters.norms(panel), "Norm of the hypergradient over meta-iterations"
    yield "agreement", hyperparameters.agreement(panel), "Agreement with the exact hypergradient"


def shown(panel: Json) -> int:
    """Which frame of the images is the selected trial's; the last, if none is selected."""
    numbers: list[Any] = panel["numbers"]
    return numbers.index(panel["trial"]) if panel["trial"] in numbers else len(numbers) - 1


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
