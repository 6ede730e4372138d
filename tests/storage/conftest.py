"""A ledger in a database of either kind, and a study for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from old_databases import FILES
from sqlalchemy import MetaData, create_engine, inspect, make_url, null, select, text

from hpo.spec import Study
from hpo.storage.ledger import Ledger
from hpo.storage.migrations import migrate


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger.open(url) as opened:
        yield opened


@pytest.fixture
def study() -> Study:
    return Study.model_validate(
        {
            "name": "digits",
            "problem": {"data": "digits", "split": {"train": 300, "validation": 600}, "model": {"mlp": [50]}},
            "training": {"steps": 600, "batch_size": 100},
            "space": {"l2": {"per": "neuron", "low": 1e-6, "high": 1.0}, "learning_rate": {}},
            "methods": ["drmad", {"name": "tpe", "per": "global", "startup": 5}],
            "budget": {"trainings": 30},
            "seeds": 2,
        }
    )


@pytest.fixture
def begun(ledger: Ledger, study: Study) -> Ledger:
    ledger.begin(study, {"python": "3.11"})
    return ledger


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def old(request: pytest.FixtureRequest) -> Path:
    """A database of an older layout; its name is the layout's number."""
    return request.param


@pytest.fixture
def old_url(url: str, old: Path) -> str:
    """A copy of it in a database of either kind, in which no process holds a study."""
    copy = make_url(url)
    if copy.database is not None and url.startswith("sqlite"):
        shutil.copy(old, copy.database)
    else:
        _copy_rows(f"sqlite:///file:{old}?mode=ro&immutable=1&uri=true", url, old.stem)
    engine = create_engine(url)
    with engine.begin() as connection:
        if "hpo_lease" in inspect(connection).get_table_names():
            connection.execute(text("UPDATE hpo_trial SET lease = NULL WHERE state = 'running'"))
            connection.execute(text("DELETE FROM hpo_lease"))
        else:
            connection.execute(text("UPDATE hpo_study SET holder = NULL"))
    engine.dispose()
    return url


def _copy_rows(source: str, target: str, layout: str) -> None:
    """Into tables of the same layout, made by the migrations."""
    reading, writing = create_engine(source), create_engine(target)
    with reading.connect() as old, writing.begin() as new:
        migrate(new, layout)
        tables = MetaData()
        tables.reflect(new)
        for table in tables.sorted_tables:
            rows = old.execute(select(table)).mappings().all() if table.name != "hpo_alembic_version" else []
            for row in rows:
                new.execute(table.insert().values({k: null() if v is None else v for k, v in row.items()}))
            if "id" in table.columns and rows:
                sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                new.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"))
    reading.dispose()
    writing.dispose()
