"""Every command as typed, its exit code, and one clear line for every bad input."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import studies_small
from click.testing import CliRunner

from hpo.cli import main
from hpo.storage.ledger import Ledger

ROOT = Path(__file__).parent.parent
TINY = studies_small.SMALL.replace("trainings: 5", "trainings: 2").replace("seeds: 2", "seeds: 1")


def hpo(*arguments, **environment):
    return CliRunner().invoke(main, [str(a) for a in arguments], env={"HPO_DATA": "", **environment})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "small.yaml").write_text(TINY)
    storage = f"sqlite:///{folder}/hpo.db"
    result = hpo("run", folder / "small.yaml", "--storage", storage)
    assert result.exit_code == 0, result.output
    return storage, result.output


def test_run_prints_progress_the_comparison_and_what_to_do_next(ran):
    _, output = ran
    assert "study small begins: 3 arms" in output
    assert re.search(r"drmad/0 +trial +0 +validation \d", output)
    assert "Rank:" in output
    assert "Next:  hpo report small -o small.html   hpo show small   hpo export small -o best/" in output


def test_show_has_the_agreed_shape(ran):
    shown = json.loads(hpo("show", "small", "--storage", ran[0], "--json").output)
    assert shown["study"] == "small"
    assert shown["spec"]["training"]["steps"] == 30
    assert [a["label"] for a in shown["arms"]] == ["drmad/0", "random-global/0", "tpe-layer/0"]
    arm = shown["arms"][0]
    assert {"label", "method", "solver", "per", "seed", "state", "trials"} <= set(arm)
    trial = arm["trials"][1]
    assert trial["number"] == 1
    assert trial["state"] == "complete"
    assert {"validation_loss", "test_loss", "seconds", "gradient_evaluations"} <= set(trial)
    assert set(trial["hyper"]["l2"]) >= {"per", "min", "median", "max"}
    assert trial["hyper"]["l2"]["per"] == "neuron"


def test_compare_has_the_agreed_shape(ran):
    compared = json.loads(hpo("compare", "small", "--storage", ran[0], "--json").output)
    assert compared["study"] == "small"
    arm = compared["arms"][0]
    wanted = {"label", "method", "solver", "per", "seed", "trials", "best_trial", "validation_loss", "test_loss"}
    assert wanted | {"test_accuracy", "cost"} <= set(arm)
    assert arm["cost"]["trainings"] == 2
    assert set(arm["cost"]) >= {"trainings", "gradient_evaluations", "seconds"}
    assert {"label", "mean_rank", "median_test_loss"} <= set(compared["methods"][0])
    pair = {"a", "b", "n", "wins", "median_difference", "ci95", "p_value", "p_holm"}
    assert pair <= set(compared["pairs"][0])


def test_the_trial_of_an_arm_is_chosen_by_validation_only(ran):
    shown = json.loads(hpo("show", "small", "--storage", ran[0], "--json").output)
    compared = json.loads(hpo("compare", "small", "--storage", ran[0], "--json").output)
    for arm, verdict in zip(shown["arms"], compared["arms"], strict=True):
        best = min(arm["trials"], key=lambda t: t["validation_loss"])
        assert (verdict["best_trial"], verdict["test_loss"]) == (best["number"], best["test_loss"])


def test_list_and_resume(ran):
    listed = json.loads(hpo("list", "--storage", ran[0], "--json").output)
    assert [(e["study"], e["arms"], e["trials"]) for e in listed] == [("small", 3, 6)]
    assert "small" in hpo("list", "--storage", ran[0]).output
    resumed = hpo("resume", "small", "--storage", ran[0], "--quiet")
    assert (resumed.exit_code, resumed.output) == (0, "")


def test_export_loads_and_repeats_the_test_loss(ran, here):
    result = hpo("export", "small", "-o", "best", "--storage", ran[0])
    assert result.exit_code == 0, result.output
    chosen = json.loads((here / "best/hyperparameters.json").read_text())
    assert len(chosen["values"]["l2"]) == 72 or chosen["arm"] != "drmad/0"
    printed = subprocess.run(
        [sys.executable, "best/load.py"], capture_output=True, text=True, check=True, cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert float(printed.stdout.split()[-1]) == pytest.approx(chosen["test_loss"], abs=1e-5)
    again = hpo("export", "small", "-o", "best", "--storage", ran[0])
    assert again.exit_code == 2
    assert "exists and is not an empty folder" in again.output
    one = hpo("export", "small", "-o", "other", "--arm", "tpe-layer/0", "--storage", ran[0])
    assert "of tpe-layer/0" in one.output
    wrong = hpo("export", "small", "-o", "third", "--arm", "tpe-layr/0", "--storage", ran[0])
    assert wrong.exit_code == 2
    assert "did you mean 'tpe-layer/0'" in wrong.output
    (here / "plain").write_text("")
    assert "cannot be written" in hpo("export", "small", "-o", "plain/x", "--storage", ran[0]).output


def test_export_before_anything_has_finished(here):
    with Ledger.open("sqlite:///hpo.db") as ledger:
        ledger.begin(studies_small.study(), {})
    result = hpo("export", "small", "-o", "best")
    assert (result.exit_code, "has no finished trial yet" in result.output) == (2, True)
    assert not (here / "best").exists()


def test_init_writes_a_study_that_passes_its_own_check(here):
    assert hpo("init").exit_code == 0
    checked = hpo("check", "study.yaml", "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["study"] == "my-study"
    assert "drmad" in hpo("check", "study.yaml").output
    again = hpo("init")
    assert (again.exit_code, "exists already" in again.output) == (2, True)
    assert "cannot be written" in hpo("init", "nowhere/study.yaml").output


CSV = "a,b,target\n" + "".join(f"{i},{i * i % 7},{'yes' if i % 3 else 'no'}\n" for i in range(60))
BAD = {
    "unknown key": (TINY.replace("low: 1e-6", "lwo: 1e-6"), r"small\.yaml: space\.l2\.lwo: unknown key"),
    "wrong type": (TINY.replace("steps: 30", "steps: thirty"), r"training\.steps: .*integer"),
    "low above high": (TINY.replace("high: 1.0, default: 1e-3", "high: 1e-9"), r"space\.l2: low 1e-06 must be below"),
    "unknown solver": (TINY.replace("solver: sgd", "solver: sdg"), r"unknown solver 'sdg'"),
    "unknown method": (TINY.replace("name: tpe", "name: tep"), r"unknown method 'tep'"),
    "unknown data": (TINY.replace("digits", "digtis"), r"unknown data set 'digtis'"),
    "missing data": (TINY.replace("digits", "mnist"), r"mnist.*--data-dir"),
    "csv missing": (TINY.replace("digits", "none.csv"), r"none\.csv.*--data-dir"),
    "csv without target": (TINY.replace("digits", "notarget.csv"), r"notarget\.csv.*target"),
    "one class": (TINY.replace("digits", "oneclass.csv"), r"class"),
    "too few rows": (TINY.replace("digits", "table.csv"), r"60"),
    "no layers": (
        TINY.replace("{mlp: [8], activation: relu}", "shift:net"),
        r"space\.l2: this model has no weight matrix",
    ),
    "no such module": (TINY.replace("{mlp: [8], activation: relu}", "nothing:net"), r"nothing"),
    "option": (
        TINY.replace("krylov: 4", "krilov: 4"),
        r"methods\.drmad\.krilov: unknown option .*did you mean 'krylov'",
    ),
    "agreement": (TINY.replace("krylov: 4", "agreement: 3"), r"methods\.drmad\.agreement: 3 must be true or false"),
    "agreement with itself": (
        TINY.replace("drmad, krylov: 4", "exact, agreement: true"),
        r"unknown option 'agreement'",
    ),
    "not yaml": ("name: [", "not valid YAML"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_nothing_is_written(here, case, monkeypatch):
    text, message = BAD[case]
    monkeypatch.syspath_prepend(str(here))
    (here / "small.yaml").write_text(text)
    (here / "table.csv").write_text(CSV)
    (here / "notarget.csv").write_text(CSV.replace("target", "label"))
    (here / "oneclass.csv").write_text(CSV.replace("yes", "no"))
    (here / "shift.py").write_text(
        "import torch\n\n\nclass Shift(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.b = torch.nn.Parameter(torch.zeros(10))\n\n"
        "    def forward(self, x):\n        return x.flatten(1)[:, :10] + self.b\n\n\ndef net():\n    return Shift()\n"
    )
    for command in ("run", "check"):
        result = hpo(command, "small.yaml")
        assert result.exit_code == 2, result.output
        assert re.search(message, result.output), result.output
        assert result.output.startswith("hpo: ")
        assert result.output.count("\n") == 1, "one line"
    assert not (here / "hpo.db").exists()


def lock(path):
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    return held


def test_databases_that_cannot_be_used(here):
    (here / "small.yaml").write_text(TINY)
    (here / "text.db").write_text("this is no database, but it is long enough to be looked at as one" * 20)
    with sqlite3.connect(here / "other.db") as other:
        other.execute("CREATE TABLE somebody (id INTEGER)")
    assert hpo("run", "small.yaml", "--storage", "sqlite:///good.db", "--quiet").exit_code == 0
    held = lock(here / "good.db")
    cases = {
        "sqlite:///text.db": "not a database",
        "sqlite:///other.db": "somebody",
        "sqlite:///good.db?timeout=0.1": "locked",
        "sqlite:///no/such/folder.db": "folder",
        "nonsense": "nonsense",
        "oracle9://x": "oracle9",
    }
    for storage, message in cases.items():
        result = hpo("run", "small.yaml", "--storage", storage)
        assert result.exit_code == 2, (storage, result.output)
        assert re.search(message, result.output), (storage, result.output)
        assert result.output.count("\n") == 1, (storage, result.output)
    held.close()
    read_only = hpo("run", "small.yaml", "--storage", f"sqlite:///file:{here}/good.db?mode=ro&uri=true")
    assert read_only.exit_code == 2
    assert "read" in read_only.output
    with sqlite3.connect(here / "good.db") as newer:
        newer.execute("UPDATE hpo_alembic_version SET version_num = '9999'")
    result = hpo("run", "small.yaml", "--storage", "sqlite:///good.db")
    assert (result.exit_code, "made by a newer hpo" in result.output) == (2, True)


@pytest.mark.parametrize("command", ["show", "compare", "resume"])
def test_unknown_studies_are_answered_with_the_nearest(ran, command):
    result = hpo(command, "smal", "--storage", ran[0])
    assert result.exit_code == 2
    assert "did you mean 'small'" in result.output


def test_reading_commands_make_no_database(here):
    for command in (["list"], ["show", "x"], ["compare", "x"], ["resume", "x"], ["export", "x", "-o", "y"]):
        assert hpo(*command).exit_code == 2
    assert list(here.iterdir()) == []


def test_a_study_without_a_usable_trial_exits_with_1(here):
    wild = TINY.replace("low: 1e-6, high: 1.0, default: 1e-3", "low: 1e3, high: 1e6").replace("low: 3e-3", "low: 0.1")
    (here / "small.yaml").write_text(wild)
    result = hpo("run", "small.yaml", "--quiet")
    assert (result.exit_code, "no trial of drmad/0" in result.output) == (1, True)
    for arguments, name in ([], "small"), (["--arm", "drmad/0"], "drmad/0"):
        said = hpo("export", "small", "-o", "best", *arguments).output
        assert re.fullmatch(rf"hpo: {name} has no usable trial, though \d+ ended: hpo show small.* tells why\n", said)


@pytest.mark.parametrize("form", [[], ["--json"], ["--format", "csv"]])
def test_whoever_reads_may_stop_reading(ran, form):
    script = "from hpo.cli import main; main()"
    command = [sys.executable, "-c", script, "compare", "small", "--storage", ran[0], *form]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [["--help"], ["list"], ["show", "small"], ["compare", "small"]])
def test_commands_that_train_nothing_do_not_load_torch(ran, command):
    script = (
        "import sys\nfrom hpo.cli import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'optuna', 'skopt', 'sklearn'} & set(sys.modules)), "
        "'sqlalchemy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "HPO_STORAGE": ran[0]},
    )  # fmt: skip
    assert done.stderr.strip() == f"[] {command != ['--help']}"


def test_every_registry_line_leads_somewhere():
    from hpo.hypergradients import HYPERGRADIENTS
    from hpo.registry import EXECUTORS, SOURCES, STRATEGIES, resolve
    from solvers import SOLVERS

    for table in (EXECUTORS, SOURCES, STRATEGIES, HYPERGRADIENTS, SOLVERS):
        for name, path in table.items():
            assert callable(resolve(path)), name


def test_every_shipped_study_is_well_formed():
    from hpo import study_file

    files = sorted((ROOT / "studies").glob("*/*.yaml"))
    names = [study_file.load(file).name for file in files]
    assert len(names) >= 4
    assert len(set(names)) == len(names)


MODULES = """
import sys
import torch

torch.manual_seed(0)


class Frozen(torch.nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.first = torch.nn.Linear(64, 8).requires_grad_(False)
        self.last = torch.nn.Linear(8, outputs)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1)))) * self.scale


class Attention(torch.nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = torch.nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.layer(x.flatten(2).squeeze(1).unflatten(1, (8, 8))).mean(1))


class Leaves(torch.nn.Linear):
    def forward(self, x):
        if torch.is_grad_enabled() and len(x) == 50:
            raise SystemExit(0)
        return super().forward(x.flatten(1))


class Bracketed(Leaves):
    def forward(self, x):
        if torch.is_grad_enabled() and len(x) == 50:
            raise RuntimeError("no file [/data/oops]")
        return torch.nn.Linear.forward(self, x.flatten(1))


def frozen(shape, outputs):
    return Frozen(shape, outputs)


def attention(shape, outputs):
    return Attention(shape, outputs)


def leaves(shape, outputs):
    return Leaves(64, outputs)


def bracketed(shape, outputs):
    return Bracketed(64, outputs)


def dies(shape, outputs):
    import os, signal

    os.kill(os.getpid(), signal.SIGKILL)


def gone(shape, outputs):
    sys.exit(0)
"""


def own(here, name, text=TINY):
    """A study of a module of one's own, in a folder whose files hide the standard library's."""
    (here / "mine.py").write_text(MODULES)
    (here / "random.py").write_text("raise ImportError('the wrong random')\n")
    (here / "small.yaml").write_text(text.replace("{mlp: [8], activation: relu}", f"mine:{name}"))


def typed(here, *arguments):
    """A command in a process of its own."""
    command = [sys.executable, "-P", "-c", "from hpo.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=300, check=False)


@pytest.mark.parametrize("name", ["frozen", "attention"])
def test_a_module_of_ones_own_runs_in_workers_and_is_exported_whole(here, name):
    own(here, name, TINY + "resources: {workers: 2}\n")
    done = typed(here, "run", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout, done.stdout
    typed(here, "export", "small", "-o", "best")
    printed = subprocess.run(
        [sys.executable, "best/load.py"], capture_output=True, text=True, check=True, cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    ).stdout  # fmt: skip
    now, then = (float(word.strip(",")) for word in (printed.split()[2], printed.split()[-1]))
    assert now == pytest.approx(then, abs=1e-5)
    if name == "frozen":
        from safetensors.numpy import load_file

        stored = load_file(here / "best/weights.safetensors")
        assert set(stored) == {"first.weight", "first.bias", "last.weight", "last.bias", "scale"}
        assert stored["scale"].shape == ()


@pytest.mark.parametrize(("name", "reason"), [("leaves", "SystemExit: 0"), ("bracketed", "no file [/data/oops]")])
def test_whatever_a_module_raises_is_a_failed_trial(here, name, reason):
    own(here, name)
    done = typed(here, "run", "small.yaml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count(reason) == 6


@pytest.mark.parametrize(("name", "reason"), [("dies", "the worker process died"), ("gone", "fails: SystemExit: 0")])
def test_a_module_that_cannot_be_built_is_refused(here, name, reason):
    own(here, name, TINY + "resources: {workers: 2}\n")
    done = typed(here, "run", "small.yaml")
    assert (done.returncode, reason in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
    assert not (here / "hpo.db").exists()


def test_sums_do_not_depend_on_the_number_of_cores():
    script = "import os\nfrom hpo.cli import main\ntry:\n    main(['list'])\nexcept SystemExit:\n    pass\n"
    script += "import sys, threadpoolctl\nassert 'numpy' in sys.modules\n"
    script += "print([p['num_threads'] for p in threadpoolctl.threadpool_info()], file=sys.stderr)"
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert set(json.loads(done.stderr.splitlines()[-1])) <= {1}
