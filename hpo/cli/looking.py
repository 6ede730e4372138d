"""Commands that read: compare, list, show."""

from __future__ import annotations

import click

from hpo.cli.group import console, echo_json, json_option, main, storage_option


@main.command()
@click.argument("names", nargs=-1, required=True)
@storage_option
@json_option
def compare(names: tuple[str, ...], storage: str, as_json: bool) -> None:
    """Compare the methods of one or more studies: chosen by validation loss, judged by test loss.

    \b
    Example:  hpo compare digits-per-neuron
    """
    from hpo.reports import listing, terminal
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        reports = [listing.compare(ledger, name) for name in names]
    if as_json:
        echo_json(reports[0] if len(reports) == 1 else reports)
        return
    for report in reports:
        terminal.compare(console(), report)


@main.command("list")
@storage_option
@json_option
def list_studies(storage: str, as_json: bool) -> None:
    """List the studies in the database."""
    from hpo.reports import listing, terminal
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        entries = listing.studies(ledger)
    if as_json:
        echo_json(entries)
    else:
        terminal.studies(console(), entries)


@main.command()
@click.argument("name")
@storage_option
@json_option
def show(name: str, storage: str, as_json: bool) -> None:
    """Show the arms and trials of the study called NAME."""
    from hpo.reports import listing, terminal
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        report = listing.show(ledger, name)
    if as_json:
        echo_json(report)
    else:
        terminal.show(console(), report)
