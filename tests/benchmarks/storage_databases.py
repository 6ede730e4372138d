"""Where the storage bench measures: new empty databases of either kind, beside one another."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import postgresql_cluster
from sqlalchemy import create_engine, make_url, text


@contextmanager
def databases() -> Iterator[dict[str, Callable[[], str]]]:
    """By kind, what makes the URL of a new empty database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        counted = iter(range(10**6))
        found = {"SQLite": lambda: f"sqlite:///{folder / str(next(counted))}.db"}
        server = os.environ.get("HPO_TEST_POSTGRES")
        reason = None if server else postgresql_cluster.missing()
        if reason is None:
            if server is None:
                postgresql_cluster.SETTINGS.update(fsync="on", full_page_writes="on", shared_buffers="128MB")
                server = stack.enter_context(postgresql_cluster.Cluster()).url
            found["PostgreSQL"] = partial(schema, server, stack)
        else:
            print(f"no PostgreSQL: {reason}")
        yield found


def schema(server: str, stack: ExitStack) -> str:
    name, engine = f"hpo_bench_{time.time_ns()}", create_engine(server)

    def gone() -> None:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()

    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    stack.callback(gone)
    url = make_url(server).set(drivername="postgresql+psycopg")
    return url.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)
