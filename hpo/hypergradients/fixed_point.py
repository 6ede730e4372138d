"""Exact arithmetic on whole multiples of 2⁻⁴⁸: a vector that is multiplied by a fraction below one, and divided again.

Multiplying a whole number c by n/d loses what lies below the point. Here nothing is lost: the remainder of c by d goes
onto a store, and a digit to the base n comes off it and fills the gap (Maclaurin, Duvenaud, Adams 2015, Section 3.2):

    i ← i·d + (c mod d) ;   c ← (c div d)·n + (i mod n) ;   i ← i div n

Each line is a bijection, so the other direction restores c and i bit for bit; i grows by log₂(d/n) bits each time, as
little as any exact method needs. The result is c·n/d to within n multiples.

i is one register of int64 a number. How far it can have grown follows from the fractions alone, so all numbers move
their low 32 bits into one more vector of words at the same time, and every operation runs on whole vectors. Fractions
may differ from one multiplication to the next, and are taken back in reverse order.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

UNIT = 2.0**-48
LARGEST = 2.0**14
"""Values stay below it in magnitude: no sum of two then leaves int64."""
FINEST = 2**16
"""The largest denominator of a fraction. In Section 3.2 it is 2¹⁶ for every fraction; 9/10 loses less as 9/10."""

_WORD = 32
_FULL = 2**63 // FINEST
"""A register within this bound can take one more remainder, of whatever fraction."""


class Word(NamedTuple):
    """32 bits of every number, `[N]` int32, and the bound of the register they were taken from."""

    bits: Tensor
    bound: int


class Remainders(NamedTuple):
    """The store i of N numbers: a register `[N]` int64, 0 ≤ register < bound, above the words, oldest first."""

    register: Tensor
    bound: int
    words: tuple[Word, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(x.numel() * x.element_size() for x in (self.register, *(word.bits for word in self.words)))


def fraction(value: float) -> Fraction:
    """The nearest n/d with d ≤ 2¹⁶, less than 2⁻¹⁶/d away; 0.9 in float32 gives 9/10."""
    return Fraction(value).limit_denominator(FINEST)


def decoded(c: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of whole multiples, rounded to `dtype`."""
    return (c.double() * UNIT).to(dtype)


def multiples(x: Tensor) -> Tensor:
    """The nearest whole multiples of 2⁻⁴⁸."""
    return (x.double() / UNIT).round_().long()


def magnitude(c: Tensor, x: Tensor) -> Tensor:
    """The largest |c + x| there is, a scalar, NaN where x is; not deceived by a sum that leaves int64."""
    return torch.add(x, c, alpha=UNIT).abs_().amax()


def nothing(like: Tensor) -> Remainders:
    """The store before the first multiplication."""
    return Remainders(torch.zeros_like(like), 1, ())


def multiplied(c: Tensor, lost: Remainders, by: Fraction) -> tuple[Tensor, Remainders]:
    """c·n/d, and the store that `divided` needs to return from there; `c` `[N]` int64, 0 < n/d < 1."""
    n, d = by.numerator, by.denominator
    whole, remainder = _split(c, d)
    register, digit = _split(remainder.add_(lost.register, alpha=d), n)
    after = Remainders(register, _grown(lost.bound, by), lost.words)
    return digit.add_(whole, alpha=n), _spilled(after) if after.bound > _FULL else after


def divided(c: Tensor, lost: Remainders, by: Fraction) -> tuple[Tensor, Remainders]:
    """The exact inverse of `multiplied`, which led to (c, lost)."""
    n, d = by.numerator, by.denominator
    # Between two spills the bound only grows: it is what the last one left exactly where that one happened.
    if lost.words and lost.bound == _left(lost.words[-1].bound):
        lost = _refilled(lost)
    whole, digit = _split(c, n)
    register, remainder = _split(digit.add_(lost.register, alpha=n), d)
    return remainder.add_(whole, alpha=d), Remainders(register, lost.bound * n // d, lost.words)


def bounds(by: Fraction, times: int) -> tuple[int, list[int]]:
    """The bound of the register after so many multiplications by one fraction, and those of its words."""
    bound, words = 1, list[int]()
    for _ in range(times):
        bound = _grown(bound, by)
        if bound > _FULL:
            words.append(bound)
            bound = _left(bound)
    return bound, words


def _grown(bound: int, by: Fraction) -> int:
    return -(-bound * by.denominator // by.numerator)


def _split(x: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """(x div by, x mod by), 0 ≤ x mod by < by."""
    quotient = torch.div(x, by, rounding_mode="floor")
    return quotient, torch.sub(x, quotient, alpha=by)


def _spilled(lost: Remainders) -> Remainders:
    rest, low = _split(lost.register, 2**_WORD)
    word = Word((low - 2 ** (_WORD - 1)).int(), lost.bound)
    return Remainders(rest, _left(lost.bound), (*lost.words, word))


def _refilled(lost: Remainders) -> Remainders:
    *words, last = lost.words
    low = last.bits.long() + 2 ** (_WORD - 1)
    return Remainders(low.add_(lost.register, alpha=2**_WORD), last.bound, tuple(words))


def _left(bound: int) -> int:
    """The bound of a register after a spill."""
    return -(-bound // 2**_WORD)
