"""One run of a study from its beginning to its end, for the command line and for Python alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpo import preparation, progress, watching
from hpo import study as loop
from hpo.storage.ledger import Ledger
from hpo.versions import installed

if TYPE_CHECKING:
    from rich.console import Console

    from hpo.spec import Study
    from hpo.study import Watcher


def conduct(
    study: Study,
    storage: str,
    screen: Console,
    *,
    data_dir: Path | None = None,
    worker: str | None = None,
    ray: str | None = None,
    parent: str | None = None,
    callbacks: Sequence[Watcher | str] = (),
    quiet: bool = False,
) -> None:
    """Run the study, or what is left of it, and show on `screen` how it goes.

    `parent`: the study it branches from. `callbacks`: watchers, and addresses of loggers, such as `csv:trials.csv`.
    Raises what `preparation.prepared`, `Ledger.open`, `watching.told` and `study.run` raise.
    """
    with preparation.prepared(study, data_dir, ray) as ready, Ledger.open(storage) as ledger:
        shown = progress.watcher(screen, quiet)
        with watching.told(shown, callbacks, ledger) as watcher:
            if ready.executor.width > 1 and not quiet:
                screen.print(f"trainings of one shape are stacked, up to {ready.executor.width} in a worker")
            versions = installed()
            if parent is not None:
                ledger.branch(parent, study, versions)
            loop.run(ready, ledger, watcher, versions, worker)
