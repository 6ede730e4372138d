"""Cards that need not be there: a program called nvidia-smi says they are."""

import stat

import pytest


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """`smi(text, rc)` puts an nvidia-smi first on the path that prints the text; it returns where the call is noted."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def install(text, rc=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\ncat <<'END'\n{text}END\nexit {rc}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return tmp_path / "asked"

    return install
