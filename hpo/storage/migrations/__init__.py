"""The history of the tables, one file per layout in `versions/`, carried out by Alembic.

A new layout: change `tables.py` and its VERSION, and add the file that leads there from the last one. A test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Float
from sqlalchemy.types import TypeEngine

from hpo.storage.tables import VERSION, Table, VersionRow

VERSION_TABLE = VersionRow.__tablename__
"""Not Alembic's usual name, which may be another program's."""


def migrate(connection: Connection, to: str = VERSION) -> None:
    """From whatever layout the database has to layout `to`, in the transaction the connection is in."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, to)


def differences(connection: Connection) -> list[str]:
    """How hpo's tables, with their columns, indexes and constraints, differ from `tables.py`; one line each."""
    options = {"version_table": VERSION_TABLE, "include_name": _ours, "compare_type": _floats_alike}
    found = compare_metadata(MigrationContext.configure(connection, opts=options), Table.metadata)
    return [_named(change) for one in found for change in (one if isinstance(one, list) else [one])]


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in Table.metadata.tables


def _floats_alike(
    _context: object, _in: object, _of: object, found: TypeEngine[Any], meant: TypeEngine[Any]
) -> bool | None:
    """SQLAlchemy 2.0 made a float FLOAT, later ones DOUBLE; both databases take them for the same."""
    return False if isinstance(found, Float) and isinstance(meant, Float) else None


def _named(change: tuple[Any, ...]) -> str:
    verb, _, what = change[0].partition("_")
    if verb == "modify":
        return f"column {change[2]}.{change[3]}: its {what} differs"
    name = f"{change[2]}.{change[3].name}" if what == "column" else change[1].name
    return f"{what} {name} is {'missing' if verb == 'add' else 'unknown'}"
