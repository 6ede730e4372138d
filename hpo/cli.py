"""The command line: parse, call, print. Everything slow is imported inside the command that needs it."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpo import __version__
from hpo.failures import BadInput, HpoError

if TYPE_CHECKING:
    from rich.console import Console

    from hpo.spec import Study

storage_option = click.option(
    "--storage", envvar="HPO_STORAGE", default="sqlite:///hpo.db", show_default=True, metavar="URL",
    help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME. Also HPO_STORAGE.",
)  # fmt: skip
data_option = click.option(
    "--data-dir", envvar="HPO_DATA", type=click.Path(path_type=Path), metavar="DIR",
    help="Where data sets are looked for. Also HPO_DATA.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


class Commands(click.Group):
    """Turns what hpo explains by itself into one line and the exit code that goes with it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HpoError as error:
            click.echo(f"hpo: {error}", err=True)
            ctx.exit(2 if isinstance(error, BadInput) else 1)
        except KeyboardInterrupt:
            click.echo("hpo: interrupted; finished trials are kept", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Tune the hyperparameters of a PyTorch training, from a handful to thousands."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # before numpy is loaded: sums must not depend on cores; trainings set their own


@main.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("study.yaml"))
def init(file: Path) -> None:
    """Write a commented starter study to FILE.

    \b
    Example:  hpo init my-study.yaml
    """
    if file.exists():
        raise BadInput(f"{file} exists already: give another name")
    try:
        file.write_text((Path(__file__).parent / "starter.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file}: cannot be written ({error.strerror}); give a path in a folder that exists") from error
    click.echo(f"{file} is written. Next:  hpo run {shlex.quote(str(file))}")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@storage_option
@data_option
@quiet_option
def run(file: Path, storage: str, data_dir: Path | None, quiet: bool) -> None:
    """Run the study in FILE, or continue it where it stopped.

    \b
    Example:  hpo run studies/digits/per-neuron.yaml
    """
    from hpo import study_file

    _run(study_file.load(file), storage, data_dir, quiet)


@main.command()
@click.argument("name")
@storage_option
@data_option
@quiet_option
def resume(name: str, storage: str, data_dir: Path | None, quiet: bool) -> None:
    """Continue the study called NAME; its file is in the database.

    \b
    Example:  hpo resume digits-per-neuron
    """
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        study = ledger.study(name).spec
    _run(study, storage, data_dir, quiet)


def _run(study: Study, storage: str, data_dir: Path | None, quiet: bool) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    from hpo import progress
    from hpo import study as loop
    from hpo.reports import listing, terminal
    from hpo.storage.ledger import Ledger
    from hpo.versions import installed

    console = _console()
    watcher = progress.watcher(console, quiet)
    with loop.prepared(study, data_dir) as ready, Ledger.open(storage) as ledger:
        try:
            loop.run(ready, ledger, watcher, installed())
        finally:
            watcher.stop()
        if not quiet:
            terminal.compare(console, listing.compare(ledger, study.name))
            console.print(
                f"\nNext:  hpo compare {study.name}   hpo show {study.name}   hpo export {study.name} -o best/"
            )


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
        _echo_json(reports[0] if len(reports) == 1 else reports)
        return
    for report in reports:
        terminal.compare(_console(), report)


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
        _echo_json(entries)
    else:
        terminal.studies(_console(), entries)


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
        _echo_json(report)
    else:
        terminal.show(_console(), report)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@json_option
@click.option("--diagnose", is_flag=True, help="Train once at the defaults and say what can be said about it.")
@click.option("--widths", metavar="M,M,…", help="With --diagnose: the smallest of these widths that fits the rows.")
def check(file: Path, data_dir: Path | None, as_json: bool, diagnose: bool, widths: str | None) -> None:
    """Check the study in FILE without running it: names, data, number of values, time and memory of a trial.

    \b
    Example:  hpo check studies/digits/per-neuron.yaml --diagnose --widths 10,20,50
    """
    from hpo import study, study_file
    from hpo.execution.serial import Serial
    from hpo.reports import diagnosis, preview, terminal

    tried = _whole_numbers("--widths", widths)
    if tried and not diagnose:
        raise BadInput("--widths belongs to --diagnose: give both")
    loaded = study_file.load(file)
    executor = Serial(loaded.resources)
    plans = study.plans(loaded, executor, data_dir)
    report = preview.check(loaded, plans, study.probes(loaded, plans, executor, data_dir))
    if not as_json:
        terminal.check(_console(), report)
    if diagnose:
        report["diagnosis"] = diagnosis.described(study.diagnosis(loaded, executor, data_dir, tried))
    if as_json:
        _echo_json(report)
    elif diagnose:
        diagnosis.show(_console(), report)


@main.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder.")
@click.option("--arm", metavar="LABEL", help="Take the best trial of this arm, such as drmad/0.")
@storage_option
def export(name: str, output: Path, arm: str | None, storage: str) -> None:
    """Write the best weights (safetensors), the hyperparameters that led to them and a loading example to DIR.

    \b
    Example:  hpo export digits-per-neuron -o best/
    """
    from hpo.reports.export import write
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        label, number = write(ledger, name, output, arm)
    click.echo(f"{output}: weights of trial {number} of {label}. Try:  python {shlex.quote(str(output / 'load.py'))}")


def _whole_numbers(option: str, text: str | None) -> tuple[int, ...]:
    words = () if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise BadInput(f"{option} {text!r}: give whole numbers of 1 or more with commas between them, such as 50,100")
    return tuple(int(word) for word in words)


def _echo_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _console() -> Console:
    from rich.console import Console

    return Console()
