"""No credentials in what is shown of an address, whatever they are made of and wherever they stand."""

from __future__ import annotations

import pytest

from hpo.storage.address import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:s3cret@host/db", "postgresql://***@host/db"),
        ("mlflow:postgresql://me:s3/cret@host/db", "mlflow:postgresql://***@host/db"),
        ("mlflow:postgresql://me:s3@cr?et#@host/db", "mlflow:postgresql://***@host/db"),
        ("postgresql://me:s3 cr'et@host/db", "postgresql://***@host/db"),
        ("https://s3cret@host:5000", "https://***@host:5000"),
        ("databricks://token:s3cret@space", "databricks://***@space"),
        ("https://host:5000?token=s3cret", "https://host:5000?token=***"),
        ("https://host:5000/?api_key=s3cret&page=2", "https://host:5000/?api_key=***&page=2"),
        ("https://host/?key=s3cret", "https://host/?key=***"),
        ("postgresql+psycopg://host/db?user=me&password=s3cret", "postgresql+psycopg://host/db?user=me&password=***"),
        ("host=h password='s3 cret' user=me", "host=h password=*** user=me"),
        ("ConnectionError: https://me:s3cret@host/a: 503", "ConnectionError: https://***@host/a: 503"),
    ],
)
def test_credentials_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me@work/hpo.db",
        "postgresql://me:***@host/db",
        "HTTPConnectionPool(host='localhost', port=9): refused, see http://localhost:5000 or write to me@host",
        "https://host/page: 503 Service Unavailable",
        "KeyError: 'token'",
    ],
)
def test_what_holds_none_stays_as_it_is(text: str) -> None:
    assert masked(text) == text
