"""The command that compares."""

from __future__ import annotations

import click

from hpo.cli.group import console, echo_json, main, storage_option


@main.command()
@click.argument("names", nargs=-1, required=True)
@storage_option
@click.option(
    "--format", "form", type=click.Choice(["text", "markdown", "csv", "json"]), default="text", show_default=True,
    help="CSV has one line an arm.",
)  # fmt: skip
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option("--all-pairs", is_flag=True, help="Also print what every two methods have against each other.")
@click.option(
    "--control", metavar="LABEL", help="A method named beforehand: only its pairs are made, and corrected for."
)
def compare(names: tuple[str, ...], storage: str, form: str, all_pairs: bool, control: str | None) -> None:
    """Compare the methods of one or more studies: chosen by validation loss, judged by test loss.

    Arms of several studies are paired by data set and seed.

    \b
    Example:  hpo compare digits-per-neuron
              hpo compare digits wine letter --format markdown
              hpo compare digits wine letter --control drmad
    """
    from hpo.reports import compared, plain, terminal_comparison
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        report = compared.compare(ledger, *names, control=control)
    if form == "json":
        echo_json(report)
    elif form == "csv":
        click.echo(plain.table(report))
    elif form == "markdown":
        click.echo(plain.markdown(report, all_pairs))
    else:
        terminal_comparison.show(console(), report, all_pairs)
