"""The command that writes a page, and pictures: report."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hpo.cli.group import main, storage_option
from hpo.failures import BadInput


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page: one HTML file that needs nothing else.",
)
@click.option(
    "--figures",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder for every figure as SVG and PNG; needs hpo[figures] and Chromium.",
)
@storage_option
def report(names: tuple[str, ...], output: Path | None, folder: Path | None, storage: str) -> None:
    """Write a page about one or more studies: verdict, tables, curves, failures, what became of the hyperparameters.

    \b
    Example:  hpo report digits-per-neuron -o digits.html
              hpo report digits-per-neuron --figures pictures/
    """
    if output is None and folder is None:
        raise BadInput("give -o FILE for a page, --figures DIR for pictures, or both")
    from hpo.reports import page, pictures
    from hpo.reports.gathering import gather
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        contents = gather(ledger, names)
    if output is not None:
        page.write(contents, output)
        click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB. Open it in a browser.")
    if folder is not None:
        count = pictures.write(contents, folder)
        click.echo(f"{shlex.quote(str(folder))}: {count} figures, each as SVG and PNG")
