"""A small line chart of characters: the median incumbent of the best methods over what they spent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hpo.reports.units import count, figure

MARKS = "●○▲△◆"
ROWS = 8
NARROW = 60


def chart(at: Sequence[float], curves: Mapping[str, Sequence[float | None]], width: int) -> list[str]:
    """One mark a method, at most five of them; the first given lies on top. At most twelve lines of `width`.

    The losses' scale is logarithmic if all are positive. Nothing on less than 60 columns, nor where nothing changes.
    """
    chosen = dict(list(curves.items())[: len(MARKS)])
    lines = {title: np.array([np.nan if y is None else y for y in ys]) for title, ys in chosen.items()}
    seen = np.concatenate([ys[~np.isnan(ys)] for ys in lines.values()]) if lines else np.zeros(0)
    if width < NARROW or not seen.size or seen.min() == seen.max() or at[0] == at[-1]:
        return []
    low, high = float(seen.min()), float(seen.max())
    labels = [figure(_between(low, high, 1 - row / (ROWS - 1))) if row in (0, ROWS // 2, ROWS - 1) else ""
              for row in range(ROWS)]  # fmt: skip
    margin = max(map(len, labels))
    columns = width - margin - 3
    cells = [[" "] * columns for _ in range(ROWS)]
    places = np.searchsorted(np.asarray(at), np.linspace(at[0], at[-1], columns), side="right") - 1
    for mark, ys in reversed(list(zip(MARKS, lines.values(), strict=False))):
        for column, loss in enumerate(ys[places].tolist()):
            if not math.isnan(loss):
                cells[round((ROWS - 1) * (1 - _share(low, high, loss)))][column] = mark
    start, stop = count(at[0]), count(at[-1])
    return [
        *(f"{label:>{margin}} │{''.join(row)}".rstrip() for label, row in zip(labels, cells, strict=True)),
        f"{'':>{margin}} └{'─' * columns}",
        f"{'':>{margin}}  {start}{stop:>{columns - len(start)}}",
    ]


def legend(titles: Sequence[str]) -> str:
    return "   ".join(f"{mark} {title}" for mark, title in zip(MARKS, titles, strict=False))


def _share(low: float, high: float, loss: float) -> float:
    return math.log(loss / low) / math.log(high / low) if low > 0 else (loss - low) / (high - low)


def _between(low: float, high: float, share: float) -> float:
    return low * (high / low) ** share if low > 0 else low + share * (high - low)
