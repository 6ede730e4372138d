"""`hpo check --diagnose`: findings as plain JSON values, and as sentences for a terminal.

Every part has `found`, `seconds` and, where it found nothing, a `reason`. Nothing here is a verdict on a study: the
theorem behind it is about other widths, squared loss and gradient descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.reports.units import NONE, duration, figure

if TYPE_CHECKING:
    from hpo.diagnostics.findings import Diagnosis

Json = Mapping[str, Any]


def described(diagnosis: Diagnosis) -> dict[str, Any]:
    """`{"seed", "before": {part: {"found", "seconds", "reason"}}, "along": {solver: {part: …}}}`; no number is NaN."""
    report = asdict(diagnosis)
    separation = diagnosis.before.separation.found
    if separation is not None:
        report["before"]["separation"]["found"]["closest"]["padded"] = separation.closest.padded
    for solver, along in diagnosis.along.items():
        if along.descent.found is not None:
            points = report["along"][solver]["descent"]["found"]["points"]
            for entry, point in zip(points, along.descent.found.points, strict=True):
                entry["ratio"] = point.ratio
    return _finite(report)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(console: Console, checked: Json) -> None:
    """The sentences below the check, part by part, and a table of each descent."""
    found = checked["diagnosis"]
    before = found["before"]
    console.print(Text(f"\n{checked['study']}, seed {found['seed']}: before the training", style="bold"))
    for name, say in BEFORE.items():
        _print(console, name, before[name], lambda part, say=say: say(part, before))
    for solver, along in found["along"].items():
        console.print(Text(f"\n{solver} at the default values", style="bold"))
        if along["descent"]["found"]:
            console.print(_table(along["descent"]["found"]["points"]))
        for name, say in ALONG.items():
            _print(console, name, along[name], say)


def _print(console: Console, name: str, part: Json, say: Callable[[Json], Iterator[str]]) -> None:
    sentences = say(part["found"]) if part["found"] is not None else iter([f"left out: {part['reason']}."])
    console.print(Text(f"{name} ({duration(part['seconds'])}): {' '.join(sentences)}"))


def _repeats(found: Json, before: Json) -> Iterator[str]:
    rows = f"{found['rows']} training rows of {before['features']} numbers, as the network is given them"
    if not found["repeated"]:
        yield f"{rows}: no two are equal, so nothing keeps the training loss above 0."
        return
    yield f"{rows}: {found['repeated']} equal an earlier one."
    if found["example"] is None:
        yield "Equal rows have equal targets, so nothing keeps the training loss above 0."
        return
    first, second = found["example"]
    yield (
        f"{found['conflicting']} are in groups of equal rows with different targets (as rows {first} and {second} of "
        f"{before['data']}): no training loss can go below {figure(found['loss'])}"
    )
    yield "." if found["error"] is None else f"and no share of wrong training rows below {_percent(found['error'])}."


def _separation(found: Json, before: Json) -> Iterator[str]:
    closest, (first, second), targets = found["closest"], found["places"], found["targets"]
    yield (
        f"distinct rows of length 1 are at least δ = {figure(closest['distance'])} apart "
        f"({figure(closest['padded'])} with the coordinate 1/√2 appended): rows {first} and {second} of "
        f"{before['data']}, targets {targets[0]} and {targets[1]}. Half of the rows have another within "
        f"{figure(closest['typical'])}."
    )
    if closest["rows"] < found["of"]:
        yield f"Compared: {closest['rows']} of {found['of']} distinct rows, so δ of all may be smaller."
    if closest["zeros"]:
        yield f"{closest['zeros']} are all 0 and have no direction: left out."


def _theory(found: Json, before: Json) -> Iterator[str]:
    del before
    yield (
        f"the theorem asks for a width of m ≥ 10^{found['log10_width']:.0f} (n = {found['rows']}, "
        f"L = {found['depth']}, d = {found['outputs']}, δ = {figure(found['separation'])}, constants left out); this "
        f"network has {found['width']}. No network comes near: no verdict."
    )


def _kernel(found: Json, before: Json) -> Iterator[str]:
    del before
    side, smallest = found["rows"] * found["outputs"], found["smallest"]
    yield (
        f"J Jᵀ of {found['rows']} of {found['of']} distinct rows and {found['outputs']} outputs at the initial weights "
        f"has eigenvalues from {_number(max(smallest, 0.0))} to {_number(found['largest'])}."
    )
    if found["rows"] < found["of"]:
        yield "Of all rows the smallest is at most that, the largest at least."
    if side > found["weights"]:
        yield f"It must be singular: {side} outputs of {found['weights']} weights."
    elif smallest < found["resolution"]:
        yield f"What is below {_number(found['resolution'])} is 0 but for rounding: some outputs cannot move alone."


def _descent(found: Json) -> Iterator[str]:
    ratios = [p["ratio"] for p in found["points"] if p["ratio"] is not None]
    yield f"F is the training loss without penalty on {found['rows']} of {found['of']} rows."
    if found["diverged"] is not None:
        yield f"The training diverges: weights are not finite at step {found['diverged']} of {found['steps']}."
    if ratios:
        slope = "F moves too little for a slope" if found["slope"] is None else f"{found['slope']:.2f}"
        yield (
            f"‖∇F‖²/F: first {_number(ratios[0])}, last {_number(ratios[-1])}, smallest {_number(min(ratios))}, "
            f"median {_number(median(ratios))}; slope of log ‖∇F‖² over log F: {slope}."
        )
    stall = found["stall"]
    if stall is not None:
        yield (
            f"Between steps {stall['start']['step']} and {stall['stop']['step']} the ratio falls "
            f"{stall['fall']:.0f}-fold while F only goes from {figure(stall['start']['loss'])} to "
            f"{figure(stall['stop']['loss'])}: the slope fades where F has no minimum."
        )
    elif ratios:
        yield "Nowhere does the ratio fall 10-fold while F stays."
    yield f"‖W − W₀‖/‖W₀‖, Frobenius and spectral: {'; '.join(map(_moved, found['movement']))}."


def _moved(layer: Json) -> str:
    return f"{layer['name']} " + ", ".join(
        NONE if layer[norm] is None else f"{layer[norm]:.2f}" for norm in ("frobenius", "spectral")
    )


def _flips(found: Any) -> Iterator[str]:
    stages = "; ".join(f"{stage['name']} {_percent(stage['share'])}" for stage in found)
    yield f"on the other side than at the start, of all pairs of a row and a unit: {stages or 'no hidden layer'}."


def _stability(found: Json) -> Iterator[str]:
    yield (
        f"step size × largest curvature of F on {found['rows']} of {found['of']} rows is {_number(found['first'])} "
        f"after the first step and {_number(found['last'])} at the end; beyond {found['limit']:.3g} gradient "
        "descent on all rows is unstable there."
    )


def _widths(found: Json) -> Iterator[str]:
    what = "mean squared error" if found["regression"] else "share of wrong training rows"
    goal = figure(found["goal"]) if found["regression"] else _percent(found["goal"])
    for fit in found["tried"]:
        if fit["step"] is not None:
            yield f"{fit['width']} is the smallest that fits: {what} at most {goal}, first seen at step {fit['step']}."
        elif fit["error"] is None:
            yield f"{fit['width']} diverges."
        else:
            reached = figure(fit["error"]) if found["regression"] else _percent(fit["error"])
            yield f"{fit['width']} ends with a {what} of {reached}."
    if found["tried"][-1]["step"] is None:
        yield f"None fits ({what} at most {goal})."
    if found["left"]:
        yield f"Not tried: {', '.join(map(str, found['left']))}."


BEFORE = {"repeats": _repeats, "separation": _separation, "theory": _theory, "kernel": _kernel}
ALONG = {"descent": _descent, "flips": _flips, "stability": _stability, "widths": _widths}
"""The parts in the order they are printed, and what says them."""


def _table(points: list[Json]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in ("step", "F", "‖∇F‖²", "‖∇F‖²/F", "F a step later,\nper F", "as the slope\nforecasts"):
        table.add_column(column, justify="right", no_wrap=True)
    for p in points:
        ahead = [
            NONE if p[k] is None or not p["loss"] else f"{p[k] / p['loss']:.4f}" for k in ("following", "forecast")
        ]
        table.add_row(str(p["step"]), figure(p["loss"]), _number(p["squared_gradient"]), _number(p["ratio"]), *ahead)
    return table


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
