"""The command line: parse, call, print. Everything slow is imported inside the command that needs it."""

from hpo.cli import comparing, database, handing, looking, reporting, running
from hpo.cli.group import main

__all__ = ["comparing", "database", "handing", "looking", "main", "reporting", "running"]
