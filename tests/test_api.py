"""hpo.run, hpo.load and hpo.compare, in this process and in scripts and a notebook of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import studies_small
from nbclient import NotebookClient

import hpo
from hpo import preparation
from hpo import study as loop
from hpo.failures import BadInput, BadStudy
from hpo.progress import Quiet
from hpo.storage.ledger import Ledger

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "JUPYTER_PLATFORM_DIRS": "1"}

OWN = """
import hpo, numpy, torch

def rows():
    x = numpy.random.default_rng(0).normal(size=(300, 4))
    return x, (x[:, 0] > 0).astype(int)

def net():
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))

STUDY = {
    "name": "own", "problem": {"data": rows, "split": {"train": 100, "validation": 100}, "model": net},
    "training": {"solver": "sgd", "steps": 10, "batch_size": 50}, "space": {"l2": {"per": "neuron"}},
    "methods": ["random"], "budget": {"trainings": 2}, "seeds": 1, "resources": {"workers": %d},
}
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/hpo.db"


@pytest.fixture
def done(url: str) -> hpo.Result:
    return hpo.run(studies_small.study(budget={"trainings": 2}), url, quiet=True)


def script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(text)
    return subprocess.run(
        [sys.executable, "mine.py"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def test_to_import_hpo_is_cheap() -> None:
    heavy = ("torch", "numpy", "pandas", "sqlalchemy", "rich", "plotly", "pydantic")
    code = f"import hpo, sys; hpo.run; print([m for m in {heavy} if m in sys.modules], sorted(hpo.__all__)[:2])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[] ['Comparison', 'Result']\n"
    assert {"run", "load", "compare"} <= set(dir(hpo))
    with pytest.raises(AttributeError, match="module 'hpo' has no attribute 'ran'"):
        _ = hpo.ran  # pyright: ignore[reportAttributeAccessIssue]


def test_it_is_the_study_that_the_loop_runs(done: hpo.Result, url: str, tmp_path: Path) -> None:
    study = studies_small.study(budget={"trainings": 2})
    with preparation.prepared(study, None) as ready, Ledger.open(f"sqlite:///{tmp_path}/alone.db") as alone:
        loop.run(ready, alone, Quiet(), {})
        expected = studies_small.essence(alone, "small")
    with Ledger.open(url) as ledger:
        assert studies_small.essence(ledger, "small") == expected
    again = hpo.run(study.canonical() | {"budget": {"trainings": 3}}, url, quiet=True)
    assert (len(done.trials), len(again.trials)) == (2 * 6, 3 * 6)


def test_frames(done: hpo.Result, url: str) -> None:
    with Ledger.open(url) as ledger:
        figures = ledger.figures("small")
    trials = done.trials.set_index(["label", "number"])
    for label, records in figures.items():
        assert [trials.loc[label, r.number]["validation_loss"] for r in records] == [r.validation_loss for r in records]
        assert trials.loc[label, 0]["l2_median"] == pytest.approx(1e-3)
    assert len(done.arms) == 6
    assert set(done.arms["best_trial"]) <= {0, 1}
    assert done.methods["cost_trainings"].tolist() == [2.0, 2.0, 2.0]
    assert done.pairs[["a", "b", "n"]].shape == (3, 3)
    assert done.pairs[["ci95_low", "data_sets_ci95_high", "data_sets_n"]].isna().all(axis=None)
    curve = done.curves.query("method == 'drmad' and unit == 'trainings' and part == 'test'")
    assert curve["median"].iloc[-1] == pytest.approx(done.arms.query("title == 'drmad'")["test_loss"].median())


def test_the_chosen_trial(done: hpo.Result, url: str) -> None:
    best = done.best
    assert best.validation_loss == done.trials["validation_loss"].min()
    with Ledger.open(url) as ledger:
        weights = ledger.weights("small", best.arm, best.trial)
    assert weights is not None
    assert all(np.array_equal(best.weights[name], weights[name]) for name in weights)
    assert done.best_of("tpe-layer/1").arm == "tpe-layer/1"
    with pytest.raises(BadInput, match="did you mean 'drmad/"):
        done.best_of("drmad/9")


def test_figures_a_page_and_a_notebook_cell(done: hpo.Result, tmp_path: Path) -> None:
    assert len(done.figure("learning-curves").data) > 0
    with pytest.raises(BadInput, match=r"unknown figure 'learning-curve': .* did you mean 'learning-curves'\?"):
        done.figure("learning-curve")
    assert "learning-curves" in done.figures
    assert done.page(tmp_path / "a.html").stat().st_size > 10_000
    assert "<td>drmad</td>" in done._repr_html_()
    assert repr(done) == f"Result(small): {done.verdict[0]}"


def test_several_studies(done: hpo.Result, url: str) -> None:
    hpo.run(studies_small.study(name="other", budget={"trainings": 1}), url, quiet=True)
    both = hpo.compare("small", "other", storage=url)
    assert sorted(set(both.arms["study"])) == ["other", "small"]
    assert set(both.trials["study"]) == {"other", "small"}
    assert isinstance(hpo.load("other", url).trials, pd.DataFrame)
    with pytest.raises(BadInput, match=r"unknown study 'smal': .* did you mean 'small'\?"):
        hpo.load("smal", url)
    with pytest.raises(BadInput, match="give the name of at least one study"):
        hpo.compare(storage=url)


def test_where_things_are_comes_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HPO_STORAGE", url)
    monkeypatch.setenv("HPO_DATA", str(tmp_path))
    result = hpo.run(studies_small.study(budget={"trainings": 1}, seeds=1, methods=["random"]), quiet=True)
    assert result.storage == url
    with Ledger.open(url) as ledger:
        assert ledger.study("small").data_dir == tmp_path


def test_a_study_in_a_thread_beside_another(url: str) -> None:
    said: list[str] = []

    def another() -> None:
        try:
            hpo.run(studies_small.study(name="other"), url, quiet=True)
        except BadStudy as error:
            said.append(str(error))

    class Once(hpo.Watcher):
        def begun(self, study: object, arms: object) -> None:
            thread = threading.Thread(target=another)
            thread.start()
            thread.join()
            another()

    hpo.run(
        studies_small.study(budget={"trainings": 1}, seeds=1, methods=["random"]), url, quiet=True, callbacks=[Once()]
    )
    beside, within = said
    assert beside.startswith(
        "hpo.run is called while a study of this program runs in another thread: of several, run one"
    )
    assert "__main__" not in beside
    assert within.startswith("hpo.run is called while a study of this program runs: a module that is imported")


def test_functions_that_cannot_be_found_again() -> None:
    def local() -> None: ...
    def renamed() -> None: ...

    renamed.__module__, renamed.__qualname__ = "os", "getcwd"

    content = studies_small.study().canonical()
    for function, said in [
        (lambda: None, "has no name to import it by"),
        (local, "has no name to import it by"),
        (renamed, "os.getcwd is not this function"),
    ]:
        with pytest.raises(BadStudy, match=f"problem.data: .*{said}.*: put it in a file"):
            hpo.run(content | {"problem": content["problem"] | {"data": function}})
    with pytest.raises(BadStudy, match="study: budget: trainings: this key|study: nmae: unknown key"):
        hpo.run({"nmae": "a"})


def test_a_plain_script_with_workers(tmp_path: Path) -> None:
    study = studies_small.study(resources={"workers": 2}, execution="processes", budget={"trainings": 2}).canonical()
    ran = script(tmp_path, f"import hpo\nprint('once')\nprint(len(hpo.run({study!r}).trials), 'trials')\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("once") == 1
    assert ran.stdout.endswith("12 trials\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_functions_of_a_script(tmp_path: Path, workers: int) -> None:
    guarded = 'if __name__ == "__main__":\n    print(repr(hpo.run(STUDY, quiet=True)))\n'
    ran = script(tmp_path, OWN % workers + guarded)
    assert (ran.returncode, ran.stderr) == (0, "")
    with Ledger.open(f"sqlite:///{tmp_path}/hpo.db") as ledger:
        assert ledger.study("own").spec.problem.model == "mine:net"
    ran = script(tmp_path, OWN % workers + "hpo.run(STUDY | {'name': 'other'}, quiet=True)\n")
    assert ran.returncode == 1
    said = ran.stderr.splitlines()[-1]
    assert "importing 'mine' fails: BadStudy: hpo.run is called" in said
    assert 'put hpo.run(…) under if __name__ == "__main__"' in said


def test_an_interrupted_script_keeps_what_it_has(tmp_path: Path) -> None:
    study = studies_small.study(budget={"trainings": 10_000}, execution="serial").canonical()
    code = """
        import hpo, os, signal

        class Stop(hpo.Watcher):
            def closed(self, arm, trial):
                if arm.closed == 3:
                    os.kill(os.getpid(), signal.SIGINT)

        try:
            hpo.run(STUDY, quiet=True, callbacks=[Stop()])
        except KeyboardInterrupt:
            print("interrupted")
        print(hpo.load("small").arms["trials"].max(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    ran = script(tmp_path, f"STUDY = {study!r}\n{textwrap.dedent(code)}")
    assert (ran.stdout, ran.stderr) == ("interrupted\n3 True\n", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook(tmp_path: Path) -> None:
    study = studies_small.study(budget={"trainings": 2}, resources={"workers": 2}, execution="processes").canonical()
    cells = [
        f"import hpo\nresult = hpo.run({study!r})",
        "result",
        "result.figure('learning-curves')",
        "def rows(): pass\nhpo.run({'problem': {'data': rows}})",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells[-1].metadata["tags"] = ["raises-exception"]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    ran, shown, figure, refused = (cell.outputs for cell in notebook.cells)
    lines = "".join(output["text"] for output in ran)
    assert lines.startswith("study small begins: 6 arms\n")
    assert lines.count(" trial ") == 12
    assert "<td>drmad</td>" in shown[0]["data"]["text/html"]
    assert "application/vnd.plotly.v1+json" in figure[0]["data"]
    assert "rows is of a session that ends, and could not be imported again" in refused[0]["evalue"]
