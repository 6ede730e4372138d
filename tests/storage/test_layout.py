"""What the ledger says of the values of an arm: which weight each belongs to, and what its inputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import studies_small
from old_databases import FILES

from hpo import preparation
from hpo.dimension import Dimension, searched
from hpo.problems.network import perceptron
from hpo.space import resolve
from hpo.spec import Study
from hpo.storage.ledger import Ledger
from hpo.storage.records import described
from hpo.storage.upkeep import upgrade
from solvers.sgd import SGD

WEIGHTS = perceptron((1, 2, 2), (3,), 2, "relu", 0)[0].layout


def pieces(name: str, per: str) -> list[tuple[Any, ...]]:
    """(weight, start, stop, shape) of each, on a network of 4, 3 and 2 units."""
    wanted = searched({name: Dimension(per=per)}, SGD.hyperparameters)  # pyright: ignore[reportArgumentType]
    [group] = described(resolve(wanted, SGD.hyperparameters, WEIGHTS, 5))
    return [tuple(piece.values()) for piece in group["pieces"]]


@pytest.mark.parametrize(
    ("name", "per", "expected"),
    [
        ("l2", "neuron", [("layers.0.weight", 0, 4, [1, 4]), ("layers.1.weight", 4, 7, [1, 3])]),
        ("l2", "weight", [("layers.0.weight", 0, 12, [3, 4]), ("layers.1.weight", 12, 18, [2, 3])]),
        ("l2", "global", [("layers.0.weight", 0, 1, [1, 1])]),
        ("learning_rate", "neuron", [("layers.0.weight", 0, 3, [3, 1]), ("layers.1.weight", 3, 5, [2, 1])]),
        ("learning_rate", "layer", [("layers.0.weight", 0, 1, [1, 1]), ("layers.1.weight", 1, 2, [1, 1])]),
        ("learning_rate", "layer-step", [("layers.0.weight", 0, 5, [5, 1, 1]), ("layers.1.weight", 5, 10, [5, 1, 1])]),
        ("learning_rate", "step", []),
        ("momentum", "global", []),
    ],
)
def test_where_values_go(name: str, per: str, expected: list[tuple[Any, ...]]) -> None:
    assert pieces(name, per) == expected


def stored(url: str, study: Study) -> dict[str, Any] | None:
    with preparation.prepared(study, None) as ready, Ledger.open(url) as ledger:
        preparation.store(ready, ledger, {})
        return ledger.arms(study.name)[0].inputs


def test_rows_of_images_and_of_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hpo.db"
    split = {"train": 60, "validation": 60}
    assert stored(url, studies_small.study()) == {"shape": [1, 8, 8], "names": None}
    wine = stored(url, studies_small.study(name="w", problem={"data": "wine", "split": split, "model": {"mlp": [3]}}))
    assert wine is not None
    assert (wine["shape"], wine["names"][0], len(wine["names"])) == ([13], "alcohol", 13)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("old", FILES[-1:], indirect=True, ids=["newest"])
def test_a_study_of_an_older_hpo_is_described_when_it_goes_on(old_url: str, old: Path) -> None:
    assert upgrade(old_url)[0] == old.stem
    with Ledger.open(old_url) as ledger:
        before = ledger.arms("killed")[0]
        assert (before.inputs, "pieces" in before.space[0]) == (None, False)
        with preparation.prepared(ledger.study("killed").spec, None) as ready:
            preparation.store(ready, ledger, {})
        after = ledger.arms("killed")[0]
    assert after.inputs == {"shape": [1, 8, 8], "names": None}
    assert after.space[0]["pieces"][0] == {"weight": "layers.0.weight", "start": 0, "stop": 64, "shape": [1, 64]}
