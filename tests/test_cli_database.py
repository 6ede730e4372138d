"""Commands about studies in the database: branches, workers' names, deletion, upkeep, Optuna's databases."""

import json
import sqlite3
from pathlib import Path

import optuna
import pytest
import studies_small
import yaml
from click.testing import CliRunner

from hpo.cli import main
from hpo.storage.ledger import Ledger
from hpo.storage.tables import VERSION

OLD = Path(__file__).parent / "storage" / "old"
TINY = studies_small.SMALL.replace("trainings: 5", "trainings: 2").replace("seeds: 2", "seeds: 1")


def hpo(*arguments, **options):
    return CliRunner().invoke(main, [str(a) for a in arguments], env={"HPO_DATA": ""}, **options)


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A folder with a finished study, to be in."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(TINY)
    assert hpo("run", "small.yaml", "--quiet").exit_code == 0
    return tmp_path


def trials(name):
    with Ledger.open("sqlite:///hpo.db") as ledger:
        return studies_small.essence(ledger, name)


def test_a_changed_study_is_refused_and_branches_under_another_name(ran):
    before = trials("small")
    Path("small.yaml").write_text(TINY.replace("startup: 2", "startup: 1"))
    refused = hpo("run", "small.yaml")
    assert refused.exit_code == 2
    assert "methods.tpe-layer.startup: was 2, is 1; give another name, or branch with --as NAME" in refused.output
    branched = hpo("run", "small.yaml", "--as", "other")
    assert branched.exit_code == 0, branched.output
    assert "study other continues after 4 trials: 3 arms" in branched.output
    after = trials("other")
    assert after.keys() == before.keys()
    assert all(after[key] == before[key] for key in before if not key[0].startswith("tpe"))
    assert hpo("resume", "other", "--quiet").exit_code == 0
    assert trials("other") == after
    assert trials("small") == before
    assert "--as: name: 'no/name' must be up to 100 letters" in hpo("run", "small.yaml", "--as", "no/name").output
    parentless = hpo("run", "small.yaml", "--as", "x", "--storage", "sqlite:///none.db")
    assert (parentless.exit_code, "there is no file none.db" in parentless.output) == (2, True)
    assert not Path("none.db").exists()


def test_the_commit_and_the_versions_are_stored(ran):
    shown = json.loads(hpo("show", "small", "--json").output)
    assert {"python", "torch", "optuna", "hpo"} <= set(shown["versions"])


def test_a_study_is_deleted_when_its_user_says_so(ran):
    assert hpo("delete", "small", input="n\n").output.endswith("nothing is deleted\n")
    silent = hpo("delete", "small", input="")
    assert (silent.exit_code, "nobody answers: give --yes" in silent.output) == (2, True)
    assert trials("small")
    asked = hpo("delete", "small", input="y\n")
    assert (asked.exit_code, "study small and its 6 finished trials are deleted" in asked.output) == (0, True)
    assert "unknown study 'small'" in hpo("delete", "small", "--yes").output
    assert hpo("run", "small.yaml", "--quiet").exit_code == 0
    assert hpo("delete", "small", "--yes").exit_code == 0


def test_a_database_is_looked_after(ran):
    assert hpo("db", "check").output == "no fault found\n"
    assert hpo("db", "upgrade").output == f"layout {VERSION}: nothing to do\n"
    assert " MB now" in hpo("db", "vacuum").output
    with sqlite3.connect("hpo.db") as database:
        database.execute("UPDATE hpo_arm SET running = 7 WHERE id = 1")
    database.close()
    found = hpo("db", "check")
    assert found.exit_code == 2
    assert "hpo: 1 fault: keep a copy of the database before you go on" in found.output


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE hpo_study SET spec = 'not json'", "something in it is not JSON"),
        ("UPDATE hpo_study SET spec = '{}'", "was stored by an hpo whose study files this one does not read"),
        ("UPDATE hpo_array SET data = x'00'", "of trial row 1 is damaged"),
        ("DELETE FROM hpo_array WHERE name = 'curve'", "has lost its learning curve"),
    ],
)
def test_a_damaged_study_is_one_line_is_found_and_can_be_deleted(ran, damage, said):
    with sqlite3.connect("hpo.db") as database:
        database.execute(damage)
    database.close()
    refused = hpo("resume", "small")
    assert (refused.exit_code, said in refused.output, refused.output.count("\n")) == (2, True, 1), refused.output
    assert hpo("db", "check").exit_code == 2
    assert hpo("delete", "small", "--yes").exit_code == 0


def test_an_older_database_is_upgraded_when_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("hpo.db").write_bytes((OLD / "0002.db").read_bytes())
    refused = hpo("list")
    assert refused.exit_code == 2
    assert f"its tables have layout 0002, this hpo has {VERSION}: run hpo db upgrade on it" in refused.output
    held = hpo("db", "upgrade")
    assert (held.exit_code, "is being run by process 4242 on elsewhere" in held.output) == (2, True)
    with sqlite3.connect("hpo.db") as database:
        database.execute(held.output.partition("if it is gone: ")[2])  # the remedy works
    database.close()
    assert hpo("db", "upgrade").output == f"from layout 0002 to {VERSION}\n"
    assert hpo("list").exit_code == 0


def test_trials_go_to_optuna_and_come_back_into_a_new_study(ran):
    written = hpo("export", "small", "--to-optuna", "sqlite:///optuna.db")
    assert written.exit_code == 0, written.output
    assert "3 studies are written for Optuna: small/drmad/0, small/random-global/0, small/tpe-layer/0" in written.output
    assert len(optuna.load_study(study_name="small/drmad/0", storage="sqlite:///optuna.db").trials) == 2
    again = {**yaml.safe_load(TINY), "name": "again", "methods": [{"name": "tpe", "per": "layer", "startup": 2}]}
    Path("again.yaml").write_text(yaml.safe_dump(again))
    which = ["--from-optuna", "sqlite:///optuna.db", "--optuna-study", "small/tpe-layer/0", "--arm", "tpe-layer/0"]
    brought = hpo("import", "again.yaml", *which)
    assert brought.exit_code == 0, brought.output
    assert brought.output == "tpe-layer/0: 2 trials imported, 0 left out (not complete)\n"
    assert hpo("run", "again.yaml", "--quiet").exit_code == 0
    arm = json.loads(hpo("show", "again", "--json").output)["arms"][0]
    assert [bool(t["origin"]) for t in arm["trials"]] == [True, True, False, False]
    assert arm["cost"]["trainings"] == 2
    assert json.loads(hpo("compare", "again", "--json").output)["arms"][0]["best_trial"] in (2, 3)


@pytest.mark.parametrize(
    "arguments",
    [[], ["-o", "best", "--to-optuna", "sqlite:///o.db"], ["--to-optuna", "sqlite:///o.db", "--arm", "x/0"]],
)
def test_an_export_goes_to_one_place(ran, arguments):
    refused = hpo("export", "small", *arguments)
    assert (refused.exit_code, "give either -o DIR" in refused.output) == (2, True)
    assert not Path("best").exists()
    assert not Path("o.db").exists()
