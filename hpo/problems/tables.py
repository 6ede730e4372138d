"""Tables with named columns: CSV files, OpenML and data frames.

Columns of numbers have their gaps filled with the median and are standardised; every other column has its gaps filled
with the most frequent value and becomes one 0/1 column per value. Medians, means, deviations and values are those of
the training rows; a value they do not have becomes zeros.
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadData, unknown
from hpo.problems.dataset import Inputs, Part, Prepared, Records

if TYPE_CHECKING:
    import pandas as pd

TARGET = "target"
DECIMAL_COMMA = r"\s*[-+]?\d+,\d+\s*"
MOST_CATEGORIES = 1000
"""A text column with more values than this is an identifier or prose, which one column per value does not describe."""


def read_csv(path: Path) -> Records:
    """The table in a `.csv` or `.csv.gz` file with a header line, whose column `target` is what is learnt.

    A cell that is empty, `?` or one of pandas' names for a missing value (NA, NaN, null …) is a gap.
    Spaces around a column's name are no part of it. Raises BadData: not a CSV, two columns of one name, no column
    `target`, no other column, infinite numbers, numbers with decimal commas, a text column of too many values.
    """
    import pandas as pd

    try:
        names = _header(path)
        table = pd.read_csv(path, na_values=["?"])
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: cannot be read as CSV, it is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        said = " ".join(str(error).split())
        raise BadData(f"{path}: cannot be read as CSV ({said}): give a comma-separated table with a header") from error
    table = table.rename(columns=lambda name: str(name).strip())
    if TARGET not in table:
        raise BadData(f"{path}: {unknown('column', TARGET, names)}; rename the column to learn to {TARGET!r}")
    for name, column in table.items():
        _no_decimal_commas(path, str(name), column)
    return records(path.name, table.drop(columns=TARGET), table[TARGET])


def _header(path: Path) -> list[str]:
    """The names of the columns, read as a line like any other: pandas would give a second `target` another name."""
    import pandas as pd

    line = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    names = [str(name).strip() for name in line]
    twice = [name for i, name in enumerate(names) if name and name in names[:i]]
    if twice:
        raise BadData(f"{path}: two columns are called {twice[0]!r}: rename or remove one")
    if len(names) == 1 and ";" in names[0]:
        raise BadData(f"{path}: its header {names[0]!r} has semicolons: save it with commas between the columns")
    return names


def _no_decimal_commas(path: Path, name: str, column: pd.Series) -> None:
    """Raises BadData for a column whose values are all like 1,5: as texts they would be a column each."""
    texts = column.dropna()
    if column.dtype.kind not in "biuf" and len(texts) and texts.astype(str).str.fullmatch(DECIMAL_COMMA).all():
        example = str(texts.iloc[0]).strip()
        raise BadData(f"{path}: column {name!r} has numbers with decimal commas ({example}): save it with points")


def read_openml(name: str, data_dir: Path | None) -> Records:
    """The data set `name` of openml.org, its active version, kept under `data_dir` (else scikit-learn's data folder).

    Raises BadData: a name OpenML does not know, no connection and no kept copy, no default target.
    """
    from sklearn.datasets import fetch_openml

    home = None if data_dir is None else str(data_dir)
    try:
        with warnings.catch_warnings():
            # If the second try fails as well, the error says more.
            warnings.filterwarnings("ignore", message="A network error occurred")
            found: Any = fetch_openml(name, as_frame=True, parser="pandas", data_home=home, n_retries=1, delay=0.1)
    except URLError as error:
        raise BadData(
            f"openml:{name}: openml.org cannot be reached ({error.reason}) and no copy is kept under "
            f"{home or '~/scikit_learn_data'}: connect once, or give a CSV file"
        ) from error
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise BadData(
            f"openml:{name}: cannot be fetched ({said}): look the name up on openml.org, "
            "and see that the data folder can be written"
        ) from error
    if found.target is None:
        raise BadData(f"openml:{name}: OpenML names no target column for it: save it as CSV with a column {TARGET!r}")
    return records(f"openml:{name}", found.data, found.target)


def records(name: str, table: pd.DataFrame, targets: object) -> Records:
    """A table and its targets, a series, frame or array. Raises BadData for columns that cannot become numbers."""
    if not table.shape[1]:
        raise BadData(f"{name}: no column besides {TARGET!r}: give at least one to learn from")
    return Records(name, Part(_plain(name, table), _values(targets)), encoded)


def _plain(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Columns of float64 numbers or of text, gaps as NaN."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    columns = {}
    for key, column in table.items():
        if is_numeric_dtype(column) and not is_bool_dtype(column):
            columns[str(key)] = numbers = column.astype("float64")
            if np.isinf(numbers).any():
                raise BadData(f"{name}: column {key!r} has infinite numbers: replace them or leave those cells empty")
        else:
            columns[str(key)] = text = column.astype(object).map(str, na_action="ignore")
            if text.nunique() > MOST_CATEGORIES:
                raise BadData(
                    f"{name}: column {key!r} has {text.nunique()} different texts, more than {MOST_CATEGORIES}: "
                    "leave it out, or make numbers or fewer categories of it"
                )
    return type(table)(columns)


def _values(targets: object) -> NDArray[Any]:
    """Targets as numpy knows them: numbers as numbers, anything else as objects with gaps as None."""
    import pandas as pd

    frame: Any = pd.DataFrame(targets)
    if all(kind.kind in "biuf" for kind in frame.dtypes):
        return frame.to_numpy()
    return frame.astype(object).where(frame.notna(), None).to_numpy()


def encoded(training: Inputs) -> Prepared:
    """The map from a table to `[N, F]`, fitted on the training rows: imputed, standardised, one-hot."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    assert not isinstance(training, np.ndarray)  # tables come from `records` only
    numbers = [key for key, kind in training.dtypes.items() if kind == np.float64]
    others = [key for key in training.columns if key not in numbers]
    # A column without a single value in the training rows keeps its place (as a constant), so that F is known.
    numeric = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    categorical = make_pipeline(
        SimpleImputer(strategy="most_frequent", keep_empty_features=True),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    columns = ColumnTransformer([("numbers", numeric, numbers), ("others", categorical, others)], sparse_threshold=0)
    columns.fit(training)
    values = columns.named_transformers_["others"][-1].categories_ if others else []
    names = [f"{key}={value}" for key, own in zip(others, values, strict=True) for value in own]
    return Prepared(lambda inputs: np.asarray(columns.transform(inputs), dtype=np.float32), (*numbers, *names))
