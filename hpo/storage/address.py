"""Where a database is: the URL a user gives, checked before anything is opened.

sqlite:///hpo.db    sqlite:////abs/hpo.db?timeout=5    sqlite:///file:hpo.db?mode=ro&uri=true
postgresql://user:password@host/database
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from hpo.failures import BadStorage, unknown

DIALECTS = ("sqlite", "postgresql")
EXAMPLE = "give sqlite:///hpo.db or postgresql://user@host/database"

SIGNED_IN = re.compile(r"(://(?!/))(\S*@|[^\s/:@]*:(?!\d+(?:[/?#\s]|$)).*@)", re.DOTALL)
"""Who signs in at an address, up to the last @, as a password may hold any character; what is a port is none."""

SECRET = re.compile(
    r"""([\w.-]*(?:pass|pwd|token|secret|credential|signature|(?:api|access|private|account)[-_]?key)[\w.-]*|(?<=[?&])key)
    (["']?\s*=\s*)('[^']*'|"[^"]*"|[^\s&]+)""",
    re.IGNORECASE | re.VERBOSE,
)


def parse(text: str) -> URL:
    """The URL. Raises BadStorage if it is malformed, of another kind, or its driver is not installed."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        # The text may hold a password that nothing can find, so all before the last @ stays out of the message.
        shown = "***@" + text.rpartition("@")[2] if "@" in text else text
        raise BadStorage(f"{masked(shown)!r} is not the URL of a database: {EXAMPLE}") from error
    if "@" in (url.host or ""):
        raise BadStorage(f"{masked(text)}: an @ stands in the user's name or the password: write it as %40")
    if url.get_backend_name() not in DIALECTS:
        raise BadStorage(f"{shown_as(url)}: {unknown('kind of database', url.get_backend_name(), DIALECTS)}")
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError as error:
        raise BadStorage(f"{shown_as(url)}: there is no driver {url.drivername!r}: {EXAMPLE}") from error
    except ImportError as error:
        remedy = "pip install 'hpo[postgres]' and begin with postgresql://" if "postgres" in url.drivername else EXAMPLE
        raise BadStorage(f"{shown_as(url)}: its driver {error.name!r} is not installed: {remedy}") from error
    if dialect.is_async:
        raise BadStorage(f"{shown_as(url)}: {url.drivername} is an asynchronous driver: {EXAMPLE}")
    try:
        dialect().create_connect_args(url)
    except (ArgumentError, ValueError) as error:
        reason = masked(str(error).splitlines()[0])
        raise BadStorage(f"{shown_as(url)}: a part of it is not understood ({reason}): {EXAMPLE}") from error
    return url


def shown_as(url: URL) -> str:
    """The URL without its passwords, wherever they stand."""
    return masked(url.render_as_string(hide_password=True))


def masked(text: str) -> str:
    """Any text without the credentials in it: `user:password@` of an address, whatever the password is made of, and
    what is assigned to a password, a token or a key (`?token=…`, `password='…'`).
    """
    text = SIGNED_IN.sub(lambda found: found[0] if found[2].endswith(":***@") else f"{found[1]}***@", text)
    return SECRET.sub(r"\1\2***", text)


def check_file(url: URL, create: bool) -> None:
    """Raises BadStorage if an SQLite file is missing (and not to be created) or cannot be one; touches nothing."""
    if url.get_backend_name() != "sqlite":
        return
    path = _path(url)
    if path is None:
        raise BadStorage(f"{shown_as(url)}: a database in memory would be forgotten: give a file, as sqlite:///hpo.db")
    if path.is_dir():
        raise BadStorage(f"{shown_as(url)}: {path} is a folder: give the path of a file in it")
    if not path.parent.is_dir():
        raise BadStorage(f"{shown_as(url)}: the folder {path.parent} does not exist: create it, or give another path")
    if not create and not path.exists():
        raise BadStorage(f"{shown_as(url)}: there is no file {path}: run a study first, or give the URL of a database")


def _path(url: URL) -> Path | None:
    name = url.database or ""
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return None if name in ("", ":memory:") or url.query.get("mode") == "memory" else Path(name)
