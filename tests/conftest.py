"""Real databases for every test: a file of its own, or a schema of its own on a PostgreSQL server.

The server is the one HPO_TEST_POSTGRES names (the URL of a database in which schemas may be made), else one started for
this run; where there is neither, the tests that need it are skipped and say so.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql_cluster import Cluster, missing
from sqlalchemy import create_engine, make_url, text


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL database, one server for all tests of this process."""
    if given := os.environ.get("HPO_TEST_POSTGRES"):
        yield given
        return
    if reason := missing():
        pytest.skip(f"{reason}; or set HPO_TEST_POSTGRES to the URL of a database")
    with Cluster() as started:
        yield started.url


@pytest.fixture
def schema(server: str) -> Iterator[str]:
    """The URL of a schema of its own on the server."""
    name = f"hpo_test_{uuid.uuid4().hex}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    yield make_url(server).update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    return f"sqlite:///{tmp_path / 'hpo.db'}" if request.param == "sqlite" else request.getfixturevalue("schema")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for this test alone, which it may stop, kill and start again."""
    if reason := missing():
        pytest.skip(reason)
    with Cluster() as started:
        yield started
