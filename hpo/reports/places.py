"""What a value of the search space is called: the unit, pixel, column, entry or step that it acts on."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np


def named(group: Mapping[str, Any], inputs: Mapping[str, Any] | None, index: int) -> str:
    """The name of value `index` of a described group (`hpo.storage.records.described`).

    `layers.0.weight: pixel (12, 7)` and `…: column age` are inputs, `layers.1.weight: unit 31` is a unit of a layer,
    `0.weight: channel 2` of a convolution, `layers.1.weight: [3, 17]` a single weight; `window 2 of 7` is a stretch of
    the training. Units of the first weight are taken for the inputs where there are as many.
    """
    piece = next((p for p in group.get("pieces", ()) if p["start"] <= index < p["stop"]), None)
    if piece is None and group["per"] == "step":
        return f"window {index} of {group['size']}"
    if piece is None:
        return f"value {index}" if group["size"] > 1 else group["name"]
    weight, shape, offset = piece["weight"], piece["shape"], index - piece["start"]
    if group["per"] == "global":
        return "all weights"
    if group["per"] == "weight":
        return f"{weight}: {[int(i) for i in np.unravel_index(offset, shape)]}"
    if group["per"] == "layer-step":
        return f"{weight}, window {offset} of {shape[0]}"
    if group["per"] == "layer":
        return weight
    if len(shape) > 2:
        return f"{weight}: channel {offset}"
    if piece["start"] == 0 and inputs is not None and shape == [1, prod(inputs["shape"])]:
        return f"{weight}: {_input(inputs, offset)}"
    return f"{weight}: unit {offset}"


def _input(inputs: Mapping[str, Any], index: int) -> str:
    """Number `index` of a flattened row."""
    if inputs["names"] is not None:
        return f"column {inputs['names'][index]}"
    shape = inputs["shape"]
    if len(shape) == 1:
        return f"column {index}"
    *channel, row, column = (int(i) for i in np.unravel_index(index, shape))
    where = f"pixel ({row}, {column})"
    return f"{where} of channel {channel[0]}" if len(shape) == 3 and shape[0] > 1 else where
