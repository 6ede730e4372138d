"""The bound as an equation: no figure of it is measured."""

from math import log, log10

import pytest

from hpo.diagnostics.theory import log10_width


@pytest.mark.parametrize(("rows", "depth", "outputs", "separation"), [(100, 3, 10, 0.1), (60000, 2, 1, 0.0910)])
def test_the_width_solves_the_bound(rows, depth, outputs, separation):
    width = log10_width(rows, depth, outputs, separation)
    asked = 24 * log10(rows) + 12 * log10(depth) + log10(outputs) - 8 * log10(separation)
    assert width == pytest.approx(asked + 5 * log10(width * log(10)), rel=1e-12)
    assert width > 48


def test_more_rows_closer_together_ask_for_more():
    base = log10_width(100, 2, 10, 0.1)
    assert min(log10_width(200, 2, 10, 0.1), log10_width(100, 3, 10, 0.1), log10_width(100, 2, 10, 0.05)) > base
    assert log10_width(1, 1, 1, 2.0) >= 1


def test_rows_that_agree_have_no_bound():
    with pytest.raises(ValueError, match="same direction"):
        log10_width(10, 1, 1, 0.0)
