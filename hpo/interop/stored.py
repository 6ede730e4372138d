"""Stored studies of Optuna: opening their database, and what studies, values and arrays are called there.

An arm `drmad/0` of the study `digits` is Optuna's study `digits/drmad/0`. A group of one value is the parameter `l2`,
one of several `l2[0]`, `l2[1]` … (one of more than `FEW` by its summary alone: `l2.min`, `l2.median`, `l2.max`). All
vectors of a trial, bit by bit, are its artifact `arrays.npz`: `values/l2`, `hypergradient/l2`, `ends/l2`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import URL, create_engine, inspect
from sqlalchemy.exc import DBAPIError

from hpo.failures import BadInput, BadStorage
from hpo.storage import address
from hpo.trial import Cost, Outcome

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

FEW = 16
"""The largest group whose values are parameters of their own: a parameter costs Optuna about two milliseconds."""

ARRAYS = "arrays.npz"
FOLDER = "optuna-artifacts"

TABLES = {"alembic_version", "studies", "trials"}
"""Names of Optuna's tables that other programs like, too."""


def study_name(study: str, arm: str) -> str:
    """What an arm is called in Optuna."""
    return f"{study}/{arm}"


def parameters(group: str, size: int) -> list[str]:
    """What the values of a group are called in Optuna."""
    return [group] if size == 1 else [f"{group}[{i}]" for i in range(size)]


def summaries(group: str) -> list[str]:
    """What the summary of a group is called."""
    return [f"{group}.{word}" for word in ("min", "median", "max")]


def pruned(trial: FrozenTrial, sign: float = 1.0) -> Outcome:
    """A pruned trial that has reported something: its curve, in Optuna's steps; its loss is the last of it."""
    reported = sorted(trial.intermediate_values.items())
    curve = np.array([(step, math.nan, sign * value) for step, value in reported])
    return Outcome("pruned", float(curve[-1, 2]), math.nan, curve=curve, cost=Cost(0))


def shown(url: str) -> str:
    """The URL of a database without its password."""
    return address.shown_as(address.parse(url))


def artifacts(url: str, given: Path | None) -> Path:
    """The folder of the artifacts: the one given, or one beside an SQLite file; BadInput for another database."""
    parsed = address.parse(url)
    if given is not None:
        return given
    if parsed.get_backend_name() != "sqlite" or (parsed.database or "").startswith("file:"):
        raise BadInput(
            f"{address.shown_as(parsed)}: vectors are kept in files, and there is no folder beside this database: "
            f"give one with --artifacts, such as {FOLDER}"
        )
    return Path(parsed.database or "").parent / FOLDER


@contextmanager
def opened(url: str, create: bool) -> Iterator[RDBStorage]:
    """Optuna's storage in a database, with Optuna silent below warnings; its faults are one line, without passwords.

    Raises BadStorage for a URL or a database that cannot be used, one without studies of Optuna if not `create`, and
    one in which tables of another program have Optuna's names; what is refused stays as it was.
    """
    import optuna

    parsed = address.parse(url)
    address.check_file(parsed, create)
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _explained(parsed):
            _recognise(parsed, create)
            storage = _storage(parsed)
            try:
                yield storage
            finally:
                storage.remove_session()
                storage.engine.dispose()
    finally:
        optuna.logging.set_verbosity(level)


def _recognise(url: URL, create: bool) -> None:
    """Before Optuna looks: it would make its tables beside whatever is there."""
    engine = create_engine(url)
    try:
        found = set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if "version_info" in found:
        return
    if not create:
        raise BadStorage(f"{address.shown_as(url)}: holds no studies of Optuna: give the database they are in")
    taken = sorted(found & TABLES)
    if taken:
        raise BadStorage(
            f"{address.shown_as(url)}: another program's tables have the names of Optuna's ({', '.join(taken)}): "
            "give another database or schema"
        )


def _storage(url: URL) -> RDBStorage:
    from optuna.storages import RDBStorage

    # Optuna takes the URL for a template: braces in a file's name are doubled.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    try:
        return RDBStorage(text)
    except RuntimeError as error:  # made by another version of Optuna
        raise BadStorage(f"{address.shown_as(url)}: Optuna says: {error}") from error


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (DBAPIError, StorageInternalError) as error:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        said = str(getattr(cause, "orig", None) or error).strip().splitlines()[0]
        raise BadStorage(f"{address.shown_as(url)}: the database says: {said}") from error
