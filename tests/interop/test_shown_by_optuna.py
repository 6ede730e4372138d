"""Optuna's own plots and its dashboard open an exported study."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import optuna
import pytest
import recorded

from hpo.interop import to_optuna
from hpo.storage.ledger import Ledger

PLOTS = (
    "optimization_history", "intermediate_values", "parallel_coordinate", "slice", "contour", "param_importances",
    "edf", "rank", "timeline",
)  # fmt: skip

PATIENCE = 120
"""Seconds in which a dashboard should have begun to answer, on a machine with much else to do."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a database with an exported study."""
    folder = tmp_path_factory.mktemp("written")
    with Ledger.open(f"sqlite:///{folder}/hpo.db") as opened:
        recorded.recorded(opened)
        to_optuna.write(opened, recorded.NAME, f"sqlite:///{folder}/optuna.db")
    return folder


@pytest.mark.parametrize("arm", [recorded.SAMPLER, recorded.DESCENT])
@pytest.mark.parametrize("plot", PLOTS)
def test_every_plot(written, plot, arm):
    study = optuna.load_study(study_name=f"{recorded.NAME}/{arm}", storage=f"sqlite:///{written}/optuna.db")
    figure = getattr(optuna.visualization, f"plot_{plot}")(study)
    assert figure.data, "something is drawn"
    assert json.loads(figure.to_json())["data"]


@pytest.fixture(scope="module")
def dashboard(written):
    """The address of a dashboard on the database, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    options = ["--host", "127.0.0.1", "--port", str(port), "--artifact-dir", str(written / recorded.ARTIFACTS)]
    with (written / "dashboard.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", command, f"sqlite:///{written}/optuna.db", *options], stdout=log, stderr=log
        )
    try:
        _await(process, f"http://127.0.0.1:{port}", written / "dashboard.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await(process, address, log):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/api/studies"):
                return
        except urllib.error.URLError:
            time.sleep(0.1)
    pytest.fail(f"the dashboard does not answer:\n{log.read_text()}")


def got(address):
    with urllib.request.urlopen(address) as answer:
        assert answer.status == 200
        return answer.read()


def test_the_dashboard_serves_every_arm(dashboard):
    listed = json.loads(got(f"{dashboard}/api/studies"))["study_summaries"]
    assert [s["study_name"] for s in listed] == [f"digits/{label}" for label in recorded.SPACES]
    for summary in listed:
        detail = json.loads(got(f"{dashboard}/api/studies/{summary['study_id']}?after=0"), parse_constant=pytest.fail)
        assert [t["state"] for t in detail["trials"]].count("Complete") == 5
        assert len(detail["trials"]) == 7


def test_the_dashboard_serves_the_vectors_of_a_trial(dashboard, written):
    study = json.loads(got(f"{dashboard}/api/studies/1?after=0"))
    trial = study["trials"][0]
    note = trial["artifacts"][0]
    served = got(f"{dashboard}/artifacts/1/{trial['trial_id']}/{note['artifact_id']}")
    assert served == (written / recorded.ARTIFACTS / note["artifact_id"]).read_bytes()
