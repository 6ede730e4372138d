"""The loggers through real runs: the real TensorBoard and MLflow, read back by their own readers."""

from __future__ import annotations

import csv
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
import studies_small

import hpo
from hpo.failures import BadInput
from hpo.loggers.csv_file import CSV
from hpo.loggers.logger import Logged, logger
from hpo.storage.ledger import Ledger
from hpo.trial import Trial

Read = Callable[[Path], dict[tuple[str, int], float]]

pytestmark = pytest.mark.filterwarnings(  # MLflow's own, about SQLAlchemy and pydantic
    "ignore::sqlalchemy.exc.SADeprecationWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


def read_csv(folder: Path) -> dict[tuple[str, int], float]:
    with (folder / "trials.csv").open() as file:
        rows = [((r["arm"], int(r["trial"])), float(r["validation_loss"])) for r in csv.DictReader(file)]
    assert len(rows) == len(dict(rows)), "a trial stands twice"
    return dict(rows)


def read_tensorboard(folder: Path) -> dict[tuple[str, int], float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    small = folder / "runs" / "small"
    for run in sorted({place.parent for place in small.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(run)).Reload()
        losses = events.Scalars("loss/validation")
        assert max(Counter(event.step for event in losses).values()) == 1, "a trial stands twice"
        label = unquote(run.relative_to(small).as_posix())
        found |= {(label, event.step): event.value for event in losses}
        if label == "drmad/0":
            tags = events.Tags()
            assert {"values/log10 l2", "values/log10 l2/layers.0.weight"} <= set(tags["distributions"])
            assert {"hypergradient/l2", "cost/seconds", "values/learning_rate/layers.1.weight"} <= set(tags["scalars"])
    return found


def read_mlflow(folder: Path) -> dict[tuple[str, int], float]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    trials = [run for run in runs.values() if "hpo.trial" in run.data.tags]
    for run in trials:
        assert runs[run.data.tags["mlflow.parentRunId"]].info.run_name == run.data.tags["hpo.arm"]
        assert {"l2.median", "l2"} & set(run.data.params)
        assert run.info.status == "FINISHED"
    found = [
        ((r.data.tags["hpo.arm"], int(r.data.tags["hpo.trial"])), r.data.metrics["validation_loss"]) for r in trials
    ]
    assert len(found) == len(dict(found)), "a trial stands twice"
    return dict(found)


KINDS = {
    "csv": ("csv:{}/trials.csv", read_csv),
    "tensorboard": ("tensorboard:{}/runs", read_tensorboard),
    "mlflow": ("mlflow:sqlite:///{}/mlflow.db", read_mlflow),
}


def run(folder: Path, trainings: int, *callbacks: str, database: str = "hpo") -> hpo.Result:
    study = studies_small.study(budget={"trainings": trainings}, seeds=1)
    return hpo.run(study, f"sqlite:///{folder}/{database}.db", quiet=True, callbacks=callbacks)


@pytest.mark.parametrize("kind", KINDS)
def test_every_trial_is_there_once(tmp_path: Path, kind: str) -> None:
    address, read = KINDS[kind][0].format(tmp_path), KINDS[kind][1]
    run(tmp_path, 1, address)
    run(tmp_path, 2)  # without it: what it lacks is written by the next run that has it
    result = run(tmp_path, 3, address)
    result = run(tmp_path, 3, address)
    expected = result.trials.set_index(["label", "number"])["validation_loss"].to_dict()
    assert read(tmp_path) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(BadInput, match=r"another study 'small'|are not this study's"):
        run(tmp_path, 1, address, database="other")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("cvs:a.csv", "unknown logger 'cvs': use one of csv, mlflow, tensorboard; did you mean 'csv'"),
        ("csv", "say where: csv:WHERE, such as csv:trials.csv"),
        ("csv:{}", "is not a file: give a file"),
        ("csv:{}/nowhere/a.csv", r"cannot be written \(No such file or directory\): give another file"),
        ("tensorboard:{}/a", r"cannot be written \(Not a directory\): give another folder"),
        ("https://secret@host", r"--log https://\*\*\*@host: unknown logger 'https'"),
        ("password=secret", r"--log password=\*\*\* unknown logger 'password=\*\*\*"),
        ("mlflow:https://user:secret@localhost:9", r"mlflow:https://\*\*\*@localhost:9: cannot be used"),
        ("mlflow:http://localhost:9/?token=secret", r"mlflow:http://localhost:9/\?token=\*\*\*: cannot be used"),
        (
            "mlflow:postgresql://user:se@cr/et@localhost:9/a",
            r"mlflow:postgresql://\*\*\*@localhost:9/a: cannot be used",
        ),
        (
            "mlflow:mysql://user:secret@localhost/a",
            r"cannot be used \(No module named 'MySQLdb'\): give another address",
        ),
        ("mlflow:sqlite:///{}/a/mlflow.db", r"cannot be used \(\[Errno 17\] File exists: .*\): give another address"),
        ("mlflow:sqlite:///{}", r"cannot be used \(.*unable to open database file.*\): give another address"),
    ],
)
def test_addresses_that_cannot_be_used(tmp_path: Path, address: str, said: str) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(BadInput, match=said) as caught:
        run(tmp_path, 1, address.format(tmp_path))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_package_that_is_not_installed(kind: str, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom hpo.loggers.logger import logger\nlogger('{kind}:a')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert f"--log {kind}:a: needs the package '{package}" in said
    assert said.endswith(f": pip install 'hpo[{kind}]'\n")


def test_a_file_with_other_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match=r"a\.csv: has other columns than this study's trials: give another file"):
        run(tmp_path, 1, f"csv:{tmp_path}/a.csv")


def begun(folder: Path, name: str) -> tuple[CSV, Logged, Trial]:
    """A study that has run, and a logger that is given a file for it."""
    run(folder, 1)
    with Ledger.open(f"sqlite:///{folder}/hpo.db") as ledger:
        study = Logged("small", ledger.study("small").created.isoformat(timespec="seconds"), ledger.arms("small"))
        trial = ledger.trials("small", study.arms[0].label)[0]
    made = logger(f"csv:{folder}/{name}")
    assert isinstance(made, CSV)
    return made, study, trial


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    made, study, trial = begun(tmp_path, "a.csv")
    assert made.begin(study) == ()
    made.log(study.arms[0], trial, datetime.now(UTC))
    whole = (tmp_path / "a.csv").read_bytes()
    code = (
        "import resource, sys, pickle\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(whole) + 20}, {len(whole) + 20}))\n"
        "made, study, trial, now = pickle.load(sys.stdin.buffer)\n"
        "made.begin(study)\n"
        "made.log(study.arms[1], trial, now)"
    )
    import pickle

    given = pickle.dumps((CSV(f"{tmp_path}/a.csv"), study, trial, datetime.now(UTC)))
    ended = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, check=False)
    assert ended.stderr.splitlines()[-1].startswith(b"OSError: [Errno 2")
    assert (tmp_path / "a.csv").read_bytes() == whole
    made.end()


def test_half_a_line_of_a_killed_run_is_written_again(tmp_path: Path) -> None:
    made, study, trial = begun(tmp_path, "a.csv")
    made.begin(study)
    for arm in study.arms:
        made.log(arm, trial, datetime.now(UTC))
    made.end()
    whole = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(whole[:-30])
    assert set(made.begin(study)) == {(arm.label, 0) for arm in study.arms[:-1]}
    made.log(study.arms[-1], trial, datetime.now(UTC))
    assert (tmp_path / "a.csv").read_bytes().count(b"\n") == whole.count(b"\n")
    made.end()


def test_a_run_that_mlflow_has_half_is_written_again(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    address = KINDS["mlflow"][0].format(tmp_path)
    result = run(tmp_path, 1, address)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    half = next(r for r in client.search_runs([experiment.experiment_id]) if "hpo.trial" in r.data.tags)
    client.update_run(half.info.run_id, "RUNNING")
    run(tmp_path, 1, address)
    assert len(read_mlflow(tmp_path)) == len(result.trials)


def test_a_logger_that_fails_later_is_filled_by_the_next_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Swept(hpo.Watcher):
        """Takes the folder away from under TensorBoard at the first trial that ends."""

        def opened(self, arm: object, proposal: object) -> None:
            import shutil

            shutil.rmtree(tmp_path / "runs" / "small", ignore_errors=True)
            (tmp_path / "runs" / "small").write_text("")

    study = studies_small.study(budget={"trainings": 1}, seeds=1)
    address = KINDS["tensorboard"][0].format(tmp_path)
    with caplog.at_level(logging.WARNING):
        hpo.run(study, f"sqlite:///{tmp_path}/hpo.db", quiet=True, callbacks=[address, Swept()])
    said = [
        r.getMessage() for r in caplog.records if r.name == "hpo.watching" and "logger tensorboard" in r.getMessage()
    ]
    assert len(said) == 1
    assert said[0].endswith("the study goes on; the next run with this logger writes what is missing")
    (tmp_path / "runs" / "small").unlink()
    result = run(tmp_path, 1, address)
    assert len(read_tensorboard(tmp_path)) == len(result.trials) == 3
