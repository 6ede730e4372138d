"""Commands that hand over: export, import."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hpo.cli.group import data_option, main, storage_option
from hpo.failures import BadInput

artifacts_option = click.option(
    "--artifacts", type=click.Path(path_type=Path), metavar="DIR",
    help="Folder of the whole vectors; optuna-artifacts beside an SQLite file if not given.",
)  # fmt: skip


@main.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@click.option("--arm", metavar="LABEL", help="With -o: take the best trial of this arm, such as drmad/0.")
@click.option("--to-optuna", metavar="URL", help="Write every arm as an Optuna study NAME/LABEL to this database.")
@artifacts_option
@storage_option
def export(
    name: str, output: Path | None, arm: str | None, to_optuna: str | None, artifacts: Path | None, storage: str
) -> None:
    """Write the best weights (safetensors), the hyperparameters that led to them and a loading example to DIR; or all
    trials to a database that Optuna and its dashboard read.

    \b
    Example:  hpo export digits-per-neuron -o best/
              hpo export digits-per-neuron --to-optuna sqlite:///optuna.db
    """
    from hpo.interop import to_optuna as interop
    from hpo.reports.export import write
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        if output is not None and to_optuna is None:
            label, number = write(ledger, name, output, arm)
            example = shlex.quote(str(output / "load.py"))
            click.echo(f"{output}: weights of trial {number} of {label}. Try:  python {example}")
        elif to_optuna is not None and output is None and arm is None:
            names = interop.write(ledger, name, to_optuna, artifacts)
            click.echo(f"{len(names)} studies are written for Optuna: {', '.join(names)}")
        else:
            raise BadInput("give either -o DIR (and --arm LABEL if you like) or --to-optuna URL")


@main.command("import")
@click.argument("name", metavar="NAME|FILE")
@click.option("--from-optuna", required=True, metavar="URL", help="Optuna's database.")
@click.option("--arm", metavar="LABEL", help="Only into this arm, such as tpe/0.")
@click.option("--optuna-study", metavar="TITLE", help="Optuna's study, if it is not called NAME/LABEL.")
@artifacts_option
@storage_option
@data_option
def import_trials(
    name: str,
    from_optuna: str,
    arm: str | None,
    optuna_study: str | None,
    artifacts: Path | None,
    storage: str,
    data_dir: Path | None,
) -> None:
    """Teach the black-box arms of the study called NAME, or of a new one in FILE, what Optuna has tried.

    Its complete trials become theirs; they cost nothing and are never chosen.

    \b
    Example:  hpo import digits --from-optuna sqlite:///optuna.db --optuna-study old --arm tpe-global/0
    """
    from hpo.interop import from_optuna as interop
    from hpo.storage.ledger import Ledger

    if Path(name).is_file():
        name = _stored(Path(name), storage, data_dir)
    with Ledger.open(storage, create=False) as ledger:
        for label, brought in interop.bring(ledger, from_optuna, name, arm, optuna_study, artifacts).items():
            click.echo(f"{label}: {brought.trials} trials imported, {brought.skipped} left out (not complete)")


def _stored(file: Path, storage: str, data_dir: Path | None) -> str:
    """The name of the study in a file, which is stored but not run."""
    from hpo import preparation, study_file
    from hpo.storage.ledger import Ledger
    from hpo.versions import installed

    study = study_file.load(file)
    with preparation.prepared(study, data_dir) as ready, Ledger.open(storage) as ledger:
        preparation.store(ready, ledger, installed())
    return study.name
