"""Commands about the database itself: db upgrade, check, vacuum; delete."""

from __future__ import annotations

import click

from hpo.cli.group import main, storage_option
from hpo.failures import BadInput, BadStorage


@main.command()
@click.argument("name")
@storage_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, storage: str, yes: bool) -> None:
    """Forget the study called NAME: its arms, its trials and everything kept of them.

    \b
    Example:  hpo delete digits-per-neuron
    """
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        count = sum(study.trials for study in ledger.studies() if study.name == name)
        if not yes and not _confirmed(f"Delete study {name} and its {count} finished trials?"):
            click.echo("nothing is deleted")
            return
        ledger.delete(name)
    click.echo(f"study {name} and its {count} finished trials are deleted")


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort as error:
        raise BadInput("nobody answers: give --yes to delete without a question") from error


@main.group()
def db() -> None:
    """Look after the database."""


@db.command()
@storage_option
def upgrade(storage: str) -> None:
    """Bring the tables of an older hpo up to date, all or nothing.

    \b
    Example:  hpo db upgrade --storage sqlite:///hpo.db
    """
    from hpo.storage import upkeep

    layouts = upkeep.upgrade(storage)
    changed = layouts.found != layouts.now
    click.echo(f"from layout {layouts.found} to {layouts.now}" if changed else f"layout {layouts.now}: nothing to do")


@db.command("check")
@storage_option
def check_database(storage: str) -> None:
    """Look for faults in the database; exit code 2 if there is one."""
    from hpo.storage import upkeep

    found = upkeep.check(storage)
    for fault in found:
        click.echo(fault)
    if found:
        count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        raise BadStorage(f"{count}: keep a copy of the database before you go on")
    click.echo("no fault found")


@db.command()
@storage_option
def vacuum(storage: str) -> None:
    """Give back the room of what is not needed any more."""
    from hpo.storage import upkeep

    size = upkeep.vacuum(storage)
    click.echo(f"{size.before / 1e6:.1f} MB before, {size.after / 1e6:.1f} MB now")
