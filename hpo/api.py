"""Studies from Python: `hpo.run`, `hpo.load`, `hpo.compare`.

    import hpo
    result = hpo.run("digits.yaml")        # or a dict with the keys of a study file; continues what is in the database
    result.trials                          # a pandas frame, one line a trial
    result.best.values["l2"]               # the vector of the chosen trial
    hpo.compare("digits", "wine").pairs    # what `hpo compare` says, as frames

What a study trains with must be found again when it goes on, perhaps on another machine: data and models are import
paths, or functions that have one, so no lambdas and none of a notebook.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.failures import BadInput, BadStudy
from hpo.results import Comparison, Result

if TYPE_CHECKING:
    from rich.console import Console

    from hpo.spec import Study
    from hpo.study import Watcher

STORAGE = "sqlite:///hpo.db"

GUARD = (
    "a module that is imported for its data or its model must not run a study: put hpo.run(…) under "
    'if __name__ == "__main__":'
)

ONE = "of several, run one after the other, or each in a process of its own"

_running = threading.Lock()
_runner: int | None = None


def run(
    study: str | Path | Mapping[str, Any] | Study,
    storage: str | None = None,
    *,
    data_dir: str | Path | None = None,
    callbacks: Sequence[Watcher | str] = (),
    quiet: bool = False,
    worker: str | None = None,
    ray: str | None = None,
) -> Result:
    """Run a study, or what is left of it, as `hpo run` does, and return what it found.

    `study`: a study file's path, its content, or a `Study`. `storage`: the database, else HPO_STORAGE, else
    sqlite:///hpo.db; `data_dir`: where data sets are, else HPO_DATA. `callbacks`: watchers (derived from `hpo.Watcher`)
    and addresses of loggers, `csv:FILE`, `tensorboard:DIR`, `mlflow:URI`; one that fails is reported and told no more.

    Raises BadInput for what cannot be run, StudyFailed when an arm has no usable trial; Ctrl-C raises
    KeyboardInterrupt, and the trainings under way are saved.
    """
    if multiprocessing.parent_process() is not None:
        raise BadStudy(f"hpo.run is called in a worker: {GUARD}")
    global _runner
    if not _running.acquire(blocking=False):
        other = _runner != threading.get_ident()
        raise BadStudy(
            f"hpo.run is called while a study of this program runs{' in another thread' if other else ''}: "
            f"{ONE if other else GUARD}"
        )
    _runner = threading.get_ident()
    try:
        from threadpoolctl import threadpool_limits

        from hpo import interruption, session

        content, where = _study(study), _storage(storage)
        with interruption.listening(), threadpool_limits(1):  # a strategy's sums must not depend on cores
            session.conduct(
                content,
                where,
                _screen(),
                data_dir=_data_dir(data_dir),
                worker=worker,
                ray=ray,
                callbacks=callbacks,
                quiet=quiet,
            )
    finally:
        _running.release()
    return Result(content.name, where)


def load(name: str, storage: str | None = None) -> Result:
    """What the database holds of a study. Raises BadInput, with the nearest name, if there is none of that name."""
    return Result(name, _storage(storage))


def compare(*names: str, storage: str | None = None, control: str | None = None) -> Comparison:
    """The methods of one or more studies, paired by data and seed; with `control`, one method against all others.

    Raises BadInput if there is no such study or method.
    """
    from hpo.storage.address import masked

    for name in names:
        if "://" in name:
            raise BadInput(f"{masked(name)} is the address of a database: give it as storage=…")
    return Comparison(names, _storage(storage), control)


def _study(given: str | Path | Mapping[str, Any] | Study) -> Study:
    from hpo import spec as study_spec
    from hpo import study_file

    if isinstance(given, str | Path):
        return study_file.load(given)
    if isinstance(given, study_spec.Study):
        return given
    if not isinstance(given, Mapping):
        raise BadStudy(f"study: {given!r} is neither a path, nor the content of a study file, nor a Study")
    content = dict(given)
    if isinstance(content.get("problem"), Mapping):
        content["problem"] = {
            key: import_path(f"problem.{key}", value) if callable(value) else value
            for key, value in content["problem"].items()
        }
    return study_file.given(content)


def import_path(key: str, function: Any) -> str:
    """`package.module:function` of a function; `key` is where the study names it. Raises BadStudy if it has none."""
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None)
    advice = "put it in a file of its own, such as mine.py, and give the function or 'mine:function'"
    if not name.isidentifier():
        raise BadStudy(f"{key}: {name or function!r} has no name to import it by when the study goes on: {advice}")
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is None and file is None:
            raise BadStudy(f"{key}: {name} is of a session that ends, and could not be imported again: {advice}")
        return f"{Path(str(file)).stem if spec is None else spec.name}:{name}"
    if getattr(sys.modules.get(str(module)), name, None) is not function:
        raise BadStudy(f"{key}: {module}.{name} is not this function: {advice}")
    return f"{module}:{name}"


def _storage(given: str | None) -> str:
    return given or os.environ.get("HPO_STORAGE") or STORAGE


def _data_dir(given: str | Path | None) -> Path | None:
    found = given or os.environ.get("HPO_DATA")
    return Path(found) if found else None


def _screen() -> Console:
    """The terminal, or a notebook's cell: with bars where it has ipywidgets, else with lines."""
    from importlib.util import find_spec

    from rich.console import Console

    from hpo.reports.tables import Screen

    screen = Screen()
    if not screen.is_jupyter:
        return screen
    return Console(force_jupyter=find_spec("ipywidgets") is not None, force_terminal=False)
