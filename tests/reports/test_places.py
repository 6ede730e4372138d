"""The names of single values, on layouts that the solvers and models really give."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.dimension import Dimension, searched
from hpo.problems.network import perceptron
from hpo.reports.places import named
from hpo.space import Weight, resolve
from hpo.storage.records import described
from solvers.sgd import SGD

IMAGES = {"shape": [1, 2, 3], "names": None}
COLOUR = {"shape": [3, 2, 2], "names": None}
TABLE = {"shape": [6], "names": ["age", "job=clerk", "job=smith", "a", "b", "c"]}
LAYOUT = perceptron((6,), (4,), 2, "relu", 0)[0].layout
SQUARE = perceptron((4,), (4,), 2, "relu", 0)[0].layout
CONVOLUTION = (Weight("0.weight", (5, 1, 3, 3), "0", 0, 0), Weight("0.bias", (5,), "0", None, 0))


def group(name: str, per: str, layout: tuple[Weight, ...] = LAYOUT, **more: Any) -> dict[str, Any]:
    wanted = searched({name: Dimension(per=per, **more)}, SGD.hyperparameters)  # pyright: ignore[reportArgumentType]
    return described(resolve(wanted, SGD.hyperparameters, layout, 8))[0]


@pytest.mark.parametrize(
    ("of", "inputs", "index", "expected"),
    [
        (group("l2", "neuron"), IMAGES, 5, "layers.0.weight: pixel (1, 2)"),
        (group("l2", "neuron"), TABLE, 1, "layers.0.weight: column job=clerk"),
        (group("l2", "neuron"), {"shape": [6], "names": None}, 2, "layers.0.weight: column 2"),
        (group("l2", "neuron"), None, 2, "layers.0.weight: unit 2"),
        (group("l2", "neuron"), {"shape": [7], "names": None}, 2, "layers.0.weight: unit 2"),
        (group("l2", "neuron"), IMAGES, 7, "layers.1.weight: unit 1"),
        (group("l2", "neuron", SQUARE), {"shape": [4], "names": list("abcd")}, 5, "layers.1.weight: unit 1"),
        (group("l2", "neuron", perceptron((12,), (4,), 2, "relu", 0)[0].layout), COLOUR, 7,
         "layers.0.weight: pixel (1, 1) of channel 1"),
        (group("l2", "neuron", CONVOLUTION), IMAGES, 3, "0.weight: channel 3"),
        (group("l2", "layer"), IMAGES, 1, "layers.1.weight"),
        (group("l2", "global"), IMAGES, 0, "all weights"),
        (group("l2", "weight"), IMAGES, 13, "layers.0.weight: [2, 1]"),
        (group("l2", "weight"), IMAGES, 25, "layers.1.weight: [0, 1]"),
        (group("learning_rate", "neuron"), IMAGES, 3, "layers.0.weight: unit 3"),
        (group("learning_rate", "neuron"), IMAGES, 5, "layers.1.weight: unit 1"),
        (group("learning_rate", "step"), IMAGES, 3, "window 3 of 8"),
        (group("learning_rate", "layer-step", windows=4), IMAGES, 6, "layers.1.weight, window 2 of 4"),
        (group("momentum", "global"), IMAGES, 0, "momentum"),
        ({"name": "l2", "per": "neuron", "size": 9}, None, 4, "value 4"),
    ],
)  # fmt: skip
def test_names(of: dict[str, Any], inputs: dict[str, Any] | None, index: int, expected: str) -> None:
    assert named(of, inputs, index) == expected


def test_every_value_has_a_name_of_its_own() -> None:
    for per in ("neuron", "weight", "layer"):
        found = group("l2", per)
        assert len({named(found, TABLE, i) for i in range(found["size"])}) == found["size"]
