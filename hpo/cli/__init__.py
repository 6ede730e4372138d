"""The command line: parse, call, print. Everything slow is imported inside the command that needs it."""

from hpo.cli import database, handing, looking, running
from hpo.cli.group import main

__all__ = ["database", "handing", "looking", "main", "running"]
