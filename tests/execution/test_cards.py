"""Finding cards: a program called nvidia-smi says what is there."""

import pytest

from hpo.execution import cards
from hpo.execution.packing import Card

TWO = """0, GPU-aaaa-1, 81920, 80896
1, GPU-bbbb-2, 40960, 1024
"""


def test_all_cards_with_their_memory(smi):
    asked = smi(TWO)
    assert cards.visible() == [Card("GPU-aaaa-1", 80.0, 79.0), Card("GPU-bbbb-2", 40.0, 1.0)]
    assert asked.read_text().strip() == " ".join(cards.QUERY[1:])


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ("1", [Card("1", 40.0, 1.0)]),
        ("1, 0", [Card("1", 40.0, 1.0), Card("0", 80.0, 79.0)]),
        ("GPU-bbbb", [Card("GPU-bbbb", 40.0, 1.0)]),
        ("MIG-GPU-aaaa-1/3/0", [Card("MIG-GPU-aaaa-1/3/0")]),
        ("0,-1,1", [Card("0", 80.0, 79.0)]),
        ("0,0", [Card("0", 80.0, 79.0)]),
        ("7", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_what_cuda_may_see_is_all_there_is(smi, monkeypatch, chosen, found):
    smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert cards.visible() == found


def test_a_card_that_shares_the_memory_of_its_machine(smi):
    smi("0, GPU-cccc, [N/A], [N/A]\n")
    assert cards.visible() == [Card("GPU-cccc")]


def test_without_nvidia_smi_the_names_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 3")
    assert cards.visible() == [Card("0"), Card("3")]


def test_without_nvidia_smi_the_driver_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(cards.visible()) == (len(list(cards.DRIVER.iterdir())) if cards.DRIVER.exists() else 0)


def test_an_nvidia_smi_that_fails_is_said(smi, monkeypatch, caplog):
    smi("Failed to initialize NVML: Driver/library version mismatch\n", rc=18)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert cards.visible() == [Card("0")]
    assert "nvidia-smi does not say what the cards have" in caplog.text
    assert "exit status 18" in caplog.text
