"""A database in a file of its own; where HPO_TEST_POSTGRES names a server, in a schema of its own there as well."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from hpo.spec import Study
from hpo.storage.ledger import Ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'hpo.db'}"
        return
    if "HPO_TEST_POSTGRES" not in os.environ:
        pytest.skip(
            "HPO_TEST_POSTGRES is not set: give the URL of a PostgreSQL database, such as postgresql://u@host/db"
        )
    given = make_url(os.environ["HPO_TEST_POSTGRES"])
    schema = f"hpo_test_{uuid.uuid4().hex}"
    engine = create_engine(given)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield given.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


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
