"""The tutorial is typed as it stands, in an empty folder with the files it names."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import markdown_pages as markdown

PAGE = markdown.DOCS / "tutorial.md"
EXAMPLES = markdown.DOCS / "examples"


def test_the_files_it_shows_are_the_files():
    files = {path.read_text(encoding="utf-8") for path in EXAMPLES.iterdir() if path.is_file()}
    assert set(markdown.blocks(PAGE, "python")) | set(markdown.blocks(PAGE, "yaml")) <= files
    text = PAGE.read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name not in text] == []


def test_its_commands_do_what_it_says(tmp_path):
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ["PATH"]])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HPO_")} | {"PATH": path, "COLUMNS": "100"}
    said = ""
    for language, text in markdown.FENCED.findall(PAGE.read_text(encoding="utf-8")):
        if language == "sh":
            done = subprocess.run(["sh", "-ec", text], cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            said = done.stdout
        elif language == "text":
            words = set(re.findall(r"[^\W\d]{3,}", text))
            assert words <= set(re.findall(r"[^\W\d]{3,}", said)), said
    assert (tmp_path / "pieces.html").stat().st_size > 100_000
    asked = ["hpo", "compare", "pieces", "--json"]
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    compared, told = json.loads(done.stdout), markdown.sections(markdown.DOCS / "comparison.md")["As JSON"]
    keys = {
        key
        for line in told.splitlines()
        if line.startswith("| `")
        for key in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert keys == set(compared)
    (pair,) = compared["pairs"]
    assert [key for key in pair if key not in ("a", "b") and f"`{key}`" not in told] == []
