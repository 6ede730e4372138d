"""‖∇F‖² against F along gradient descent in the setting of Allen-Zhu, Li, Song (ICML 2019), for several widths.

    f(x) = B σ(W_L … σ(W_1 σ(A x̃)))    F = ½ Σ_i ‖f(x_i) − y_i‖²    η = 0.6 d/(m n)

A `[m, F + 1]` and W_l `[m, m]` are normal with variance 2/m, B `[d, m]` with variance 1/d; only W is trained. x̃ is
(x/‖x‖, 1)/√2, y one-hot. n = 100 images of MNIST, L = 3, d = 10, 300 steps, true and drawn labels.

    python studies/papers/overparameterization/gradient_and_objective.py DATA_DIR

prints the table of README.md and writes figure.svg beside it; seconds are those of the processor, on one thread.
"""

from __future__ import annotations

import sys
import time
from math import log10, sqrt
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from hpo.diagnostics.descent_path import Objective, follow, log_slope
from hpo.diagnostics.findings import Point
from hpo.diagnostics.floors import firsts, groups
from hpo.diagnostics.separation import closest
from hpo.problems.sources import load

WIDTHS, SEEDS, ROWS, DEPTH, CLASSES, STEPS = (32, 128, 512), (0, 1, 2), 100, 3, 10, 300
COLOURS = {32: "#c44e52", 128: "#4c72b0", 512: "#55a868"}


class Run(NamedTuple):
    width: int
    points: list[Point]
    fitted: int | None
    moved: float


def network(width, features, seed):
    """(forward, W_1 … W_L)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(out, fan_in, variance):
        return torch.randn(out, fan_in, generator=generator) * sqrt(variance)

    first, last = normal(width, features, 2 / width), normal(CLASSES, width, 1 / CLASSES)
    weights = {f"W{i + 1}": normal(width, width, 2 / width) for i in range(DEPTH)}

    def forward(weights, inputs):
        hidden = F.relu(inputs @ first.T)
        for w in weights.values():
            hidden = F.relu(hidden @ w.T)
        return hidden @ last.T

    return forward, weights


def half_squares(outputs, targets):
    """The sum over rows, as ROWS times a mean."""
    return ROWS * 0.5 * (outputs - targets).square().sum(dim=1).mean()


def descend(inputs, labels, width, seed):
    forward, start = network(width, inputs.shape[1], seed)
    objective = Objective(forward, half_squares, inputs, F.one_hot(labels, CLASSES).float())
    rate, fitted, weights = 0.6 * CLASSES / (width * ROWS), [], start

    def states():
        nonlocal weights
        for step in range(STEPS + 1):
            if not fitted and bool((forward(weights, inputs).argmax(dim=1) == labels).all()):
                fitted.append(step)
            yield step, weights
            slopes = objective.slope(weights)[1]
            weights = {name: w - rate * slopes[name] for name, w in weights.items()}

    points = list(follow(states(), range(STEPS + 1), objective))
    moved = max(float(torch.linalg.matrix_norm(w - start[name], 2)) for name, w in weights.items())
    return Run(width, points, fitted[0] if fitted else None, moved)


def svg(panels, path):
    """Log-log dots, a panel for each kind of labels; lines of slope 1 for the eye."""
    parts, low, high = [], (0.7, 1.0), (2.4, 6.0)  # log₁₀ of the corners: (F, ‖∇F‖²)

    def place(panel, x, y):
        spans = (x - low[0]) / (high[0] - low[0]), (y - low[1]) / (high[1] - low[1])
        return 60 + 400 * panel + 330 * spans[0], 300 - 250 * spans[1]

    def text(x, y, said, anchor="middle"):
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{said}</text>')

    for panel, (title, runs) in enumerate(panels.items()):
        (left, bottom), (right, top) = place(panel, *low), place(panel, *high)
        parts.append(
            f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#999"/>'
        )
        text((left + right) / 2, top - 10, title)
        text((left + right) / 2, bottom + 36, "F")
        for k in (1, 2):
            text(place(panel, k, 0)[0], bottom + 16, f"10<tspan dy='-5' font-size='8'>{k}</tspan>")
        for k in range(1, 7):
            text(left - 6, place(panel, 0, k)[1] + 4, f"10<tspan dy='-5' font-size='8'>{k}</tspan>", "end")
        text(left + 8, top + 16, "‖∇F‖²", "start")
        for offset in (1, 3):
            ends = [place(panel, x, x + offset) for x in (max(low[0], low[1] - offset), min(high[0], high[1] - offset))]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in ends)
            parts.append(f'<polyline points="{points}" fill="none" stroke="#bbb" stroke-dasharray="4 3"/>')
            text(ends[0][0] + 6, ends[0][1] - 14, f"{10**offset} F", "start")
        for i, run in enumerate(runs):
            for p in run.points[:: 1 if len(run.points) < 100 else 3]:
                x, y = place(panel, log10(p.loss), log10(p.squared_gradient))
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="{COLOURS[run.width]}"/>')
            parts.append(f'<circle cx="{right - 70}" cy="{bottom - 14 - 16 * i}" r="3" fill="{COLOURS[run.width]}"/>')
            text(right - 60, bottom - 10 - 16 * i, f"m = {run.width}", "start")
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 830 350" font-family="sans-serif" font-size="12">'
    path.write_text("\n".join([head, '<rect width="830" height="350" fill="white"/>', *parts, "</svg>"]) + "\n")


def main(data_dir):
    data = load("mnist", data_dir)
    images = torch.as_tensor(data.prepare(data.rows.inputs)(data.rows.inputs)).flatten(1)
    labels = torch.as_tensor(data.rows.targets)
    panels: dict[str, list[Run]] = {}
    print("labels | m | seed | q d/m first … last, least | slope | 100 % at step | movement | F first … last | seconds")
    for kind in ("true labels", "drawn labels"):
        for width in WIDTHS:
            for seed in SEEDS:
                generator = torch.Generator().manual_seed(seed)
                some = torch.randperm(len(images), generator=generator)[:ROWS]
                unit = F.normalize(images[some], dim=1)
                inputs = torch.cat([unit, torch.ones(ROWS, 1)], dim=1) / sqrt(2)
                wanted = labels[some] if kind == "true labels" else torch.randint(CLASSES, (ROWS,), generator=generator)
                began = time.process_time()
                run = descend(inputs, wanted, width, seed)
                ratios = [p.ratio * CLASSES / width for p in run.points]
                slope = log_slope(run.points)
                cells = [
                    f"{ratios[0]:.3g} … {ratios[-1]:.2g}, {min(ratios):.2g}",
                    "–" if slope is None else f"{slope:.2f}",
                    str(run.fitted),
                    f"{run.moved:.2f}",
                    f"{run.points[0].loss:.3g} … {run.points[-1].loss:.2g}",
                    f"{time.process_time() - began:.1f}",
                ]
                print(" | ".join([kind, str(width), str(seed), *cells]), flush=True)
                if seed == SEEDS[0]:
                    panels.setdefault(kind, []).append(run)
    svg(panels, Path(__file__).with_name("figure.svg"))
    began = time.process_time()
    found = closest(images)
    print(
        f"MNIST 60,000: δ = {found.padded:.4f} with the coordinate, {found.distance:.4f} without; "
        f"rows {found.first} and {found.second}, classes {labels[found.first]} and {labels[found.second]}; "
        f"typical {found.typical:.3f}; {time.process_time() - began:.1f} s"
    )
    began = time.process_time()
    print(f"{len(images) - len(firsts(groups(images)))} repeated rows; {time.process_time() - began:.1f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
