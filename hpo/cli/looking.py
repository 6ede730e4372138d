"""Commands that read: list, show."""

from __future__ import annotations

import click

from hpo.cli.group import console, echo_json, json_option, main, storage_option


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
@click.argument("arm", required=False)
@click.argument("trial", required=False)
@storage_option
@json_option
def show(name: str, arm: str | None, trial: str | None, storage: str, as_json: bool) -> None:
    """Show the arms and trials of the study called NAME; or one ARM of it; or one TRIAL of that: its values by layer
    and by name.

    \b
    Example:  hpo show digits-per-neuron drmad/0 12
    """
    from hpo.reports import detail, listing, terminal, terminal_detail
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        if arm is None:
            report, printed = listing.show(ledger, name), terminal.show
        elif trial is None:
            report, printed = detail.arm(ledger, name, arm), terminal_detail.arm
        else:
            report, printed = detail.trial(ledger, name, arm, trial), terminal_detail.trial
    if as_json:
        echo_json(report)
    else:
        printed(console(), report)
