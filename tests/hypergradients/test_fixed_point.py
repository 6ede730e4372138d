"""Multiplication of whole numbers by a fraction and back: every bit, and no more memory than the theory says."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.hypergradients.fixed_point import (
    FINEST,
    LARGEST,
    UNIT,
    decoded,
    divided,
    fraction,
    magnitude,
    multiples,
    multiplied,
    nothing,
)

MOST = int(LARGEST / UNIT) - 1
FRACTIONS = [Fraction(9, 10), Fraction(1, 10), Fraction(19, 20), Fraction(49, 50), Fraction(1, FINEST)]
FRACTIONS += [Fraction(FINEST - 1, FINEST), Fraction(40503, 65521), Fraction(2, 65535)]
NUMBERS = st.lists(st.integers(-MOST, MOST), min_size=1, max_size=5)
ANY_FRACTION = st.tuples(st.integers(1, FINEST), st.integers(1, FINEST)).filter(lambda pair: pair[0] != pair[1])
FRACTION = ANY_FRACTION.map(lambda pair: Fraction(min(pair), max(pair)))


def there_and_back(c, fractions):
    """What is left after all multiplications, the store then, and what the way back ends with."""
    value, lost = c, nothing(c)
    for by in fractions:
        value, lost = multiplied(value, lost, by)
    end, peak = value, lost
    for by in reversed(fractions):
        value, lost = divided(value, lost, by)
    return end, peak, value, lost


def assert_back(c, value, lost):
    assert torch.equal(value, c)
    assert torch.equal(lost.register, torch.zeros_like(c))
    assert (lost.bound, lost.words) == (1, ())


@pytest.mark.parametrize("by", FRACTIONS, ids=str)
def test_thousands_of_steps_are_undone_bit_for_bit(by):
    generator = torch.Generator().manual_seed(0)
    c = torch.randint(-MOST, MOST, (50,), generator=generator)
    c[:5] = torch.tensor([0, 1, -1, MOST, -MOST])
    end, _, value, lost = there_and_back(c, [by] * 3000)
    assert not torch.equal(end, c)
    assert_back(c, value, lost)


@given(NUMBERS, FRACTION, st.integers(1, 200))
@settings(deadline=None)
def test_any_numbers_and_any_fraction_are_undone(numbers, by, steps):
    c = torch.tensor(numbers)
    _, _, value, lost = there_and_back(c, [by] * steps)
    assert_back(c, value, lost)


@given(NUMBERS, st.lists(FRACTION, min_size=1, max_size=100))
@settings(deadline=None)
def test_the_fraction_may_be_another_one_each_time(numbers, fractions):
    c = torch.tensor(numbers)
    _, _, value, lost = there_and_back(c, fractions)
    assert_back(c, value, lost)


@given(NUMBERS, NUMBERS, FRACTION)
@settings(deadline=None)
def test_sums_on_the_way_are_undone_too(numbers, pushes, by):
    """As a training does it: each multiplication is followed by an addition of something known, within the range."""
    c = torch.tensor(numbers) // 4
    value, lost = c, nothing(c)
    for push in pushes:
        value, lost = multiplied(value, lost, by)
        value = value + push // 8
    for push in reversed(pushes):
        value, lost = divided(value - push // 8, lost, by)
    assert_back(c, value, lost)


@given(NUMBERS, FRACTION)
@settings(deadline=None)
def test_a_product_is_right_to_within_the_numerator(numbers, by):
    found, _ = multiplied(torch.tensor(numbers), nothing(torch.tensor(numbers)), by)
    for c, x in zip(numbers, found.tolist(), strict=True):
        assert abs(x - c * by) < by.numerator


@pytest.mark.parametrize("by", FRACTIONS, ids=str)
@pytest.mark.parametrize("steps", [100, 1000, 5000])
def test_the_store_grows_by_the_information_that_is_lost(by, steps):
    """log₂(d/n) bits a number and step, in whole words of 32, above a register of 64."""
    c = torch.full((7,), MOST)
    _, peak, _, _ = there_and_back(c, [by] * steps)
    bits, information = 8 * peak.bytes / len(c), steps * math.log2(1 / by)
    assert information <= bits <= 64 + 1.0001 * information
    assert bits == 64 + 32 * len(peak.words)


def test_a_value_is_the_nearest_fraction():
    assert fraction(0.9) == Fraction(9, 10)
    assert fraction(float(torch.tensor(0.9))) == Fraction(9, 10)
    assert fraction(float(torch.tensor(0.98))) == Fraction(49, 50)
    odd = 0.873452198
    found = fraction(odd)
    assert found.denominator <= FINEST
    assert 0 < abs(found - odd) < 1 / (FINEST * found.denominator)
    assert (fraction(1e-7), fraction(1 - 1e-7)) == (0, 1)


@given(st.floats(-LARGEST, LARGEST))
def test_values_are_rounded_to_multiples(x):
    """In double precision numbers below 16 in magnitude have finer digits than 2⁻⁴⁸; the others stay as they are."""
    tensor = torch.tensor([x], dtype=torch.float64)
    found = decoded(multiples(tensor), torch.float64)
    assert float((found - tensor).abs()) <= UNIT / 2
    assert abs(x) < 16 or torch.equal(found, tensor)
    assert decoded(multiples(tensor), torch.float32).dtype == torch.float32


def test_the_magnitude_sees_what_integers_would_hide():
    top = torch.tensor([MOST, 0])
    assert float(magnitude(top, torch.tensor([LARGEST * 8, 0.0], dtype=torch.float64))) > LARGEST * 8
    assert float(magnitude(top, torch.tensor([-LARGEST, -3.0], dtype=torch.float64))) == 3.0
    assert math.isnan(float(magnitude(top, torch.tensor([0.0, math.nan], dtype=torch.float64))))
