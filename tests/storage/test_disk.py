"""A disk that is full (a small one, made for the test, on which room is made later) or may not be written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import studies_small
import yaml

from hpo import preparation
from hpo import study as loop
from hpo.progress import Quiet
from hpo.spec import Study
from hpo.storage import upkeep
from hpo.storage.ledger import Ledger

ALONE = ["unshare", "--user", "--map-root-user", "--mount"]

HPO = "from hpo.cli import main; main()"

IMPATIENT = """
from hpo.storage.leases import Times
from hpo.storage.ledger import Ledger

Ledger.open.__func__.__defaults__ = True, Times(patience=0.5)
"""

SCRIPT = """
python=$1 impatient=$2 hpo=$3
mount -t tmpfs -o size=600k none disk || exit 99
"$python" -c "$impatient" run small.yaml --quiet --storage sqlite:///disk/hpo.db 2> first
echo $? >> first
mount -o remount,size=1200k disk
"$python" -c "$hpo" resume small --quiet --storage sqlite:///disk/hpo.db 2> second &
until grep -sq 'trying again' second || ! kill -0 $!; do sleep 0.05; done
mount -o remount,size=64m disk
wait $!
echo $? >> second
cp disk/hpo.db copy && umount disk && mv copy disk/hpo.db
"""

FULL = "hpo: sqlite:///disk/hpo.db: the disk is full: make room, then "


def refused() -> str | None:
    """Why there can be no small disk here, None if there can."""
    try:
        tried = subprocess.run(
            [*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        return str(error)
    return tried.stderr.strip() or None


def hpo(folder: Path, *command: str, prefix: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code and the last line of what it said on stderr."""
    program = [*prefix, sys.executable, "-c", HPO, *command, "--quiet", "--storage", "sqlite:///disk/hpo.db"]
    ended = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return ended.returncode, (ended.stderr.splitlines() or [""])[-1]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = studies_small.study(resources={"checkpoint": 0})
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(made.canonical()))
    (tmp_path / "disk").mkdir()
    return made


def whole(folder: Path, study: Study) -> None:
    storage = f"sqlite:///{folder}/disk/hpo.db"
    assert upkeep.check(storage) == []
    with (
        Ledger.open(storage, create=False) as ledger,
        Ledger.open(f"sqlite:///{folder}/alone.db") as alone,
        preparation.prepared(study, None) as ready,
    ):
        loop.run(ready, alone, Quiet(), {})
        assert studies_small.essence(ledger, "small") == studies_small.essence(alone, "small")


def test_a_full_disk_is_said_and_waited_for_and_loses_nothing(tmp_path: Path, study: Study) -> None:
    if reason := refused():
        pytest.skip(f"no disk of its own may be made for this test: {reason}")
    ended = subprocess.run(
        [*ALONE, "sh", "-c", SCRIPT, "sh", sys.executable, IMPATIENT + HPO, HPO],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    *_, said, code = (tmp_path / "first").read_text().splitlines()
    assert said.startswith(FULL)
    assert code == "2"
    first, *_, code = (tmp_path / "second").read_text().splitlines()
    assert first.startswith(FULL)
    assert "; trying again for " in first
    assert code == "0"
    whole(tmp_path, study)


def test_a_file_that_may_not_grow_is_said_and_loses_nothing(tmp_path: Path, study: Study) -> None:
    """As where a quota ends."""
    small = ["sh", "-c", 'ulimit -f 400; exec "$@"', "sh"]
    code, said = hpo(tmp_path, "run", "small.yaml", prefix=small)
    assert code == 2
    assert said.startswith("hpo: sqlite:///disk/hpo.db: ")
    assert hpo(tmp_path, "resume", "small") == (0, "")
    whole(tmp_path, study)


def test_a_database_that_may_not_be_written_is_one_line_and_stays_as_it_was(tmp_path: Path, study: Study) -> None:
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    common = [] if os.geteuid() else powerless  # to whom rights on files mean nothing
    disk, file = tmp_path / "disk", tmp_path / "disk" / "hpo.db"
    disk.chmod(0o500)
    said = "hpo: sqlite:///disk/hpo.db: cannot be opened or written here: check the rights on the file and its folder"
    assert hpo(tmp_path, "run", "small.yaml", prefix=common) == (2, said)
    disk.chmod(0o700)
    with Ledger.open(f"sqlite:///{file}") as ledger:
        ledger.begin(study, {})
    before = file.read_bytes()
    file.chmod(0o400)
    code, said = hpo(tmp_path, "resume", "small", prefix=common)
    assert code == 2
    assert said.startswith("hpo: sqlite:///disk/hpo.db: read-only: make the file and its folder writable")
    assert file.read_bytes() == before
    file.chmod(0o600)
    assert hpo(tmp_path, "resume", "small") == (0, "")
