"""What all commands share: the group, its options, how failures and JSON are printed."""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpo import __version__, interruption
from hpo.failures import BadInput, HpoError

if TYPE_CHECKING:
    from rich.console import Console

storage_option = click.option(
    "--storage", envvar="HPO_STORAGE", default="sqlite:///hpo.db", show_default=True, metavar="URL",
    help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME. Also HPO_STORAGE.",
)  # fmt: skip
data_option = click.option(
    "--data-dir", envvar="HPO_DATA", type=click.Path(path_type=Path), metavar="DIR",
    help="Where data sets are looked for. Also HPO_DATA.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
worker_option = click.option(
    "--worker", metavar="NAME", help="Name of this run: started again under it, it has its trials back at once."
)
quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


class Commands(click.Group):
    """Turns what hpo explains by itself into one line and the exit code that goes with it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            if _read():
                raise
            from hpo.reports.tables import unread

            return unread()
        except Exception as error:
            if not interruption.asked():
                if not isinstance(error, HpoError):
                    raise
                click.echo(f"hpo: {error}", err=True)
                ctx.exit(2 if isinstance(error, BadInput) else 1)
        click.echo("hpo: interrupted; finished trials are kept", err=True)
        return ctx.exit(130)


def _read() -> bool:
    """Whether somebody still reads the output: `hpo list | head -1` ends when head does, and nothing has failed."""
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    return not pipe.poll(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Tune the hyperparameters of a PyTorch training, from a handful to thousands."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # before numpy is loaded: sums must not depend on cores; trainings set their own
    logging.basicConfig(format="hpo: %(message)s")  # warnings only: a database that is waited for


def echo_json(value: object) -> None:
    """Indented for people; for programs in one line, which Python writes three times as fast."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))


def console() -> Console:
    from hpo.reports.tables import Screen

    return Screen()
