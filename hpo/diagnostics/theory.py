"""The width that the convergence theorem asks for. It is astronomically large: structure, never a test.

    m ≥ Ω(n²⁴ L¹² log⁵m / δ⁸)·d          Allen-Zhu, Li, Song 2019, Theorem 1, as restated by Basri et al. 2020, App. D

n rows of length 1 that are δ apart, L hidden layers, d outputs, squared loss, first and last layer fixed. The constant
in Ω is not known; it is taken as 1.
"""

from __future__ import annotations

from math import log, log10


def log10_width(rows: int, depth: int, outputs: int, separation: float) -> float:
    """log₁₀ of the smallest m beyond 10 that satisfies the bound. Raises ValueError where δ is 0: there is none."""
    if separation <= 0:
        raise ValueError("two distinct rows have the same direction: the bound is infinite")
    base = 24 * log10(rows) + 12 * log10(depth) + log10(outputs) - 8 * log10(separation)
    width = 1.0
    for _ in range(100):  # x ← base + 5 log₁₀(x ln 10) contracts for x > 5/ln 10
        width = max(1.0, base + 5 * log10(width * log(10)))
    return width
