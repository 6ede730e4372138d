"""Durations, counts and sizes as people read them."""

from __future__ import annotations

import pytest

from hpo.reports import units


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (0.041, "41 ms"), (12.34, "12.3 s"), (270, "4.5 min"), (11520, "3.2 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (950.0, "950"), (18_240, "18.2k"), (3_140_000, "3.1M")])
def test_counts(value: float, text: str) -> None:
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [(0, "0.0 KiB"), (3000, "2.9 KiB"), (567 * 1024, "567 KiB"), (12.3 * 2**20, "12.3 MiB"), (1.5 * 2**30, "1.5 GiB")],
)
def test_sizes(bytes_: float, text: str) -> None:
    assert units.size(bytes_) == text
