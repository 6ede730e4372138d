"""Finding a data set's files: the current folder first, then the data folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpo.failures import BadData
from hpo.problems.dataset import Folders


def folders(data_dir: Path | None) -> Folders:
    """The current folder, then `data_dir` if there is one."""
    here = Path.cwd()
    return (here,) if data_dir is None else (here, (here / data_dir.expanduser()).resolve())


def find(data: str, patterns: Sequence[str], places: Folders) -> Path:
    """The first file that matches the first pattern that matches any, place by place.

    Raises BadData saying where it was looked for, what is expected there and how to point to another folder.
    """
    for place in places:
        for pattern in patterns:
            found = _matching(place, pattern)
            if found is not None:
                return found
    looked = ", ".join(str(place) for place in dict.fromkeys(places))
    raise BadData(
        f"{data}: no {' or '.join(patterns)} in {looked}: put the file there, "
        "or name the folder that has it with --data-dir DIR or HPO_DATA"
    )


def _matching(place: Path, pattern: str) -> Path | None:
    """The file, or the alphabetically first one of several."""
    path = place / Path(pattern).expanduser()
    candidates = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
