"""Commands that train: init, check, run, resume."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

import hpo
from hpo import interruption
from hpo.cli.group import (
    console,
    data_option,
    echo_json,
    json_option,
    main,
    quiet_option,
    storage_option,
    worker_option,
)
from hpo.failures import BadInput

if TYPE_CHECKING:
    from hpo.spec import Study
    from hpo.storage.records import StudyRecord


ray_option = click.option(
    "--ray", metavar="ADDRESS", help="Train on the Ray cluster at HOST:PORT, auto, or local, whatever the study says."
)
log_option = click.option(
    "--log", "logs", multiple=True, metavar="KIND:WHERE",
    help="Write every trial there too: csv:FILE, tensorboard:DIR, mlflow:URI. May be given several times.",
)  # fmt: skip


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
        file.write_text((Path(hpo.__file__).parent / "starter.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file}: cannot be written ({error.strerror}); give a path in a folder that exists") from error
    click.echo(f"{file} is written. Next:  hpo run {shlex.quote(str(file))}")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@storage_option
@data_option
@worker_option
@click.option("--as", "branch", metavar="NAME", help="Run it under another name, with what its study has done so far.")
@ray_option
@log_option
@quiet_option
def run(
    file: Path,
    storage: str,
    data_dir: Path | None,
    worker: str | None,
    branch: str | None,
    ray: str | None,
    logs: tuple[str, ...],
    quiet: bool,
) -> None:
    """Run the study in FILE, or continue it where it stopped. Any number of runs share the work.

    \b
    Example:  hpo run studies/digits/per-neuron.yaml
    """
    from hpo import study_file

    study = study_file.load(file)
    if branch is None:
        _run(study, storage, data_dir, worker, ray, logs, quiet)
    else:
        _stored(study.name, storage)
        _run(study_file.renamed(study, branch), storage, data_dir, worker, ray, logs, quiet, parent=study.name)


@main.command()
@click.argument("name")
@storage_option
@data_option
@worker_option
@ray_option
@log_option
@quiet_option
def resume(
    name: str,
    storage: str,
    data_dir: Path | None,
    worker: str | None,
    ray: str | None,
    logs: tuple[str, ...],
    quiet: bool,
) -> None:
    """Continue the study called NAME; its file is in the database.

    \b
    Example:  hpo resume digits-per-neuron
    """
    record = _stored(name, storage)
    _run(record.spec, storage, data_dir or record.data_dir, worker, ray, logs, quiet)


def _stored(name: str, storage: str) -> StudyRecord:
    from hpo.storage.ledger import Ledger

    with Ledger.open(storage, create=False) as ledger:
        return ledger.study(name)


def _run(
    study: Study,
    storage: str,
    data_dir: Path | None,
    worker: str | None,
    ray: str | None,
    logs: tuple[str, ...],
    quiet: bool,
    parent: str | None = None,
) -> None:
    interruption.listen(signal.SIGINT, signal.SIGTERM)

    from hpo import session
    from hpo.reports import compared, terminal_comparison
    from hpo.storage.ledger import Ledger

    screen = console()
    session.conduct(
        study, storage, screen, data_dir=data_dir, worker=worker, ray=ray, parent=parent, callbacks=logs, quiet=quiet
    )
    if not quiet:
        with Ledger.open(storage, create=False) as ledger:
            terminal_comparison.show(screen, compared.compare(ledger, study.name))
        screen.print(
            f"\nNext:  hpo report {study.name} -o {study.name}.html   hpo show {study.name}   "
            f"hpo export {study.name} -o best/",
            soft_wrap=True,
        )


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
    from hpo import preparation, study_file
    from hpo.execution.serial import Serial
    from hpo.reports import diagnosis, preview, terminal

    tried = _whole_numbers("--widths", widths)
    if tried and not diagnose:
        raise BadInput("--widths belongs to --diagnose: give both")
    loaded = study_file.load(file)
    executor = Serial(loaded.resources)
    plans = preparation.plans(loaded, executor, data_dir)
    report = preview.check(loaded, plans, preparation.probes(loaded, plans, executor, data_dir))
    if not as_json:
        terminal.check(console(), report)
    if diagnose:
        report["diagnosis"] = diagnosis.described(preparation.diagnosis(loaded, executor, data_dir, tried))
    if as_json:
        echo_json(report)
    elif diagnose:
        diagnosis.show(console(), report)


def _whole_numbers(option: str, text: str | None) -> tuple[int, ...]:
    words = () if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise BadInput(f"{option} {text!r}: give whole numbers of 1 or more with commas between them, such as 50,100")
    return tuple(int(word) for word in words)
