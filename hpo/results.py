"""What the database holds of studies, as pandas frames, figures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.failures import BadInput, unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from hpo.storage.ledger import Ledger

INTERVALS = ("ci95", "reduction_ci95", "test_loss_range")
DATA_SETS = "data_sets"
"""What the pairs are over data sets, where there are several: a pair's own figures."""


class Comparison:
    """The methods of one or more studies. Frames are read when it is made, figures when they are first asked for.

    Frames have the keys of `hpo compare --json` as columns, intervals and parts as `ci95_low`, `cost_seconds`; an
    interval that is missing has its columns too.
    """

    def __init__(self, names: Sequence[str], storage: str, control: str | None = None) -> None:
        from hpo.reports import compared, listing

        self.names, self.storage, self.control = tuple(names), storage, control
        if not names:
            raise BadInput("compare: give the name of at least one study")
        with self._ledger() as ledger:
            self.json: dict[str, Any] = compared.compare(ledger, *names, control=control)
            self._shown = [listing.show(ledger, name) for name in self.names]

    @property
    def verdict(self) -> list[str]:
        """What may be concluded, in sentences; the first is the headline."""
        return self.json["verdict"]

    @property
    def methods(self) -> pd.DataFrame:
        """One line a method, best mean rank first."""
        return _frame(self.json["methods"])

    @property
    def arms(self) -> pd.DataFrame:
        """One line an arm, with its chosen trial."""
        return _frame(self.json["arms"])

    @property
    def pairs(self) -> pd.DataFrame:
        """One line for every two methods."""
        return _frame(self.json["pairs"])

    @property
    def curves(self) -> pd.DataFrame:
        """The best so far over what was spent: method, unit, at, part (test, validation), median, low, high."""
        import pandas as pd

        parts = [
            pd.DataFrame({"method": method, "unit": unit, "at": curve["at"], "part": part, **curve[part]})
            for method, units in self.json["curves"].items()
            for unit, curve in units.items()
            for part in ("test", "validation")
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    @property
    def trials(self) -> pd.DataFrame:
        """One line a trial of every arm; of a hyperparameter its lowest, median and highest value."""
        about = ("label", "title", "method", "solver", "seed")
        return _frame(
            [
                {"study": study["study"], **{key: arm[key] for key in about}, **trial, **trial["hyper"], "hyper": {}}
                for study in self._shown
                for arm in study["arms"]
                for trial in arm["trials"]
            ]
        )

    @property
    def figures(self) -> list[str]:
        """The names that `figure` takes."""
        return list(self._drawn)

    def figure(self, name: str) -> go.Figure:
        """A Plotly figure by its name. Raises BadInput, with the nearest name, for one there is not."""
        if name not in self._drawn:
            raise BadInput(unknown("figure", name, self._drawn))
        return self._drawn[name].figure

    def page(self, file: str | Path) -> Path:
        """Write the page of `hpo report` to `file`. Raises BadInput if that cannot be written."""
        from hpo.reports import page

        page.write(self._gathered, Path(file))
        return Path(file)

    @cached_property
    def _gathered(self) -> dict[str, Any]:
        from hpo.reports import gathering

        with self._ledger() as ledger:
            return gathering.gather(ledger, self.names, self.control)

    @cached_property
    def _drawn(self) -> Mapping[str, Any]:
        from hpo.reports import figures

        return figures.draw(self._gathered)

    def _ledger(self) -> Ledger:
        from hpo.storage.ledger import Ledger

        return Ledger.open(self.storage, create=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.names)}): {self.verdict[0]}"

    def _repr_html_(self) -> str:
        shown = ["label", "mean_rank", "median_test_loss", "median_validation_loss", "median_test_accuracy", "seeds"]
        table = self.methods[shown].to_html(index=False, border=0, na_rep="–", float_format="{:.4g}".format)
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.verdict)
        return f"<h4>{escape(self.json['study'])}</h4>{table}<ul>{said}</ul>"


class Best(NamedTuple):
    """The trial with the lowest validation loss: its vectors in natural units, and the trained weights, by name."""

    arm: str
    trial: int
    validation_loss: float
    test_loss: float
    test_accuracy: float | None
    values: dict[str, NDArray[np.float64]]
    weights: dict[str, NDArray[np.generic]]


class Result(Comparison):
    """One study."""

    def __init__(self, name: str, storage: str) -> None:
        super().__init__([name], storage)
        self.name = name

    @property
    def best(self) -> Best:
        """The chosen trial of the whole study. Raises BadInput if no trial has ended well."""
        return self.best_of(None)

    def best_of(self, arm: str | None) -> Best:
        """The chosen trial of an arm, such as `drmad/0`. Raises BadInput if there is none."""
        from hpo.reports import export

        with self._ledger() as ledger:
            label, trial = export.chosen(ledger, self.name, arm)
            values = ledger.trials(self.name, label, since=trial.number)[0].proposal.values
            weights = ledger.weights(self.name, label, trial.number)
        assert weights is not None  # the ledger keeps those of the best trial of every arm
        losses = trial.validation_loss, trial.test_loss, trial.test_accuracy
        return Best(label, trial.number, *losses, dict(values), weights)


def _frame(entries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([_flat(entry) for entry in entries])


def _flat(entry: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{"cost": {"seconds": 1}, "ci95": [0, 1]} → {"cost_seconds": 1, "ci95_low": 0, "ci95_high": 1}.

    What is not there has its columns too: {"ci95": None} → {"ci95_low": None, "ci95_high": None}.
    """
    from hpo.reports.comparison import Pair

    found: dict[str, Any] = {}
    for key, value in entry.items():
        if key in INTERVALS:
            low, high = value or (None, None)
            found |= {f"{before}{key}_low": low, f"{before}{key}_high": high}
        elif isinstance(value, Mapping) or key == DATA_SETS:
            found |= _flat(dict.fromkeys(Pair._fields) if value is None else value, f"{before}{key}_")
        else:
            found[f"{before}{key}"] = value
    return found
