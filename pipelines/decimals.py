"""Decimal numbers as JSON writes them, to the nearest double, without the interpreter.

Up to 2^53 with a power of ten up to 22, both are doubles and one operation rounds once (Clinger, How to read floating
point numbers accurately, 1990). Else the product with a power of five of 128 bits decides (Lemire, Number parsing at a
gigabyte per second, 2021, algorithm 1). What neither can decide is left to the caller.
"""

from __future__ import annotations

import numpy as np

from ..thresholds.jit import kernel
from .memory import byte

_ZERO, _MINUS, _PLUS, _POINT, _SMALL_E, _LARGE_E = (ord(c) for c in "0-+.eE")
_MOST_DIGITS = 19  # fit 64 bits
_LEAST_POWER, _MOST_POWER = -300, 280
"""Powers of ten of which every number of 19 digits is a normal double."""
_EXACT = np.array([10.0**n for n in range(23)])
_EXACT_MANTISSA = np.uint64(2**53)
_U0, _U1, _U2, _U3 = (np.uint64(n) for n in range(4))
_U9, _U32, _U52, _U63 = (np.uint64(n) for n in (9, 32, 52, 63))
_LOW32 = np.uint64(0xFFFFFFFF)
_LOW9 = np.uint64(0x1FF)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_TEN = np.uint64(10)
_HIDDEN = np.uint64(1 << 52)
_BIAS = 1023


def _power_of_five(n: int) -> int:
    """The 128 leading bits of 5^n: rounded up where 5^-n is an integer of 64 bits, else down."""
    power: int = 5 ** abs(n)
    if n >= 0:
        return power << 128 >> power.bit_length()
    return (1 << (127 + power.bit_length())) // power + (n >= -27)


_FIVES = np.array(
    [divmod(_power_of_five(n), 1 << 64) for n in range(_LEAST_POWER, _MOST_POWER + 1)], np.uint64
)


@kernel
def number(at: int) -> tuple[float, int]:
    """The number in the text that begins at the address `at`, and the address behind it; -1 there if it cannot be told.

    The text ends in something that no number holds. Not told are what JSON does not call a number, more than 19 digits,
    -0, and what is near the ends of the doubles' range.
    """
    negative = byte(at) == _MINUS
    if negative:
        at += 1
    first, power = at, 0
    mantissa, digits, at = _digits(_U0, 0, at)
    if at == first or (byte(first) == _ZERO and at - first > 1):
        return 0.0, -1
    if byte(at) == _POINT:
        first = at + 1
        mantissa, digits, at = _digits(mantissa, digits, first)
        if at == first:
            return 0.0, -1
        power = first - at
    if digits > _MOST_DIGITS:
        return 0.0, -1
    if byte(at) == _SMALL_E or byte(at) == _LARGE_E:
        at += 1
        down = byte(at) == _MINUS
        if down or byte(at) == _PLUS:
            at += 1
        first, exponent = at, 0
        digit = byte(at) - _ZERO
        while 0 <= digit <= 9 and at - first < 4:
            exponent = exponent * 10 + digit
            at += 1
            digit = byte(at) - _ZERO
        if at == first or 0 <= digit <= 9:
            return 0.0, -1
        power += -exponent if down else exponent
    if mantissa == _U0:
        return 0.0, -1 if negative else at
    if mantissa <= _EXACT_MANTISSA and -22 <= power <= 22:
        exact = np.float64(mantissa)
        found = exact * _EXACT[power] if power >= 0 else exact / _EXACT[-power]
    elif _LEAST_POWER <= power <= _MOST_POWER:
        found = _rounded(mantissa, power)
    else:
        return 0.0, -1
    if found < 0:
        return 0.0, -1
    return -found if negative else found, at


@kernel
def _digits(mantissa: np.uint64, digits: int, at: int) -> tuple[np.uint64, int, int]:
    """A number with the digits from `at` on behind its own, how many count, and the address behind them."""
    digit = byte(at) - _ZERO
    while 0 <= digit <= 9:
        mantissa = mantissa * _TEN + np.uint64(digit)
        digits += digits != 0 or digit != 0  # not by the mantissa: of 20 digits it may be 0 again, as of 2^64
        at += 1
        digit = byte(at) - _ZERO
    return mantissa, digits, at


@kernel
def _rounded(mantissa: np.uint64, power: int) -> float:
    """mantissa x 10^power, rounded to nearest even; -1 where 128 bits of the power do not decide."""
    zeros = _U0
    while mantissa >> _U63 == _U0:
        mantissa <<= _U1
        zeros += _U1
    five, more = _FIVES[power - _LEAST_POWER]
    high, low = _product(mantissa, five)
    if high & _LOW9 == _LOW9:  # the bits that were left out may carry this far
        second = _product(mantissa, more)[0]
        low += second
        if low < second:
            high += _U1
        if low == _ALL and not -27 <= power <= 55:
            return -1.0
    top = high >> _U63
    shift = top + _U9
    bits = high >> shift
    exponent = ((217706 * power) >> 16) + 63 + np.int64(top) - np.int64(zeros) + _BIAS
    if low <= _U1 and -4 <= power <= 23 and bits & _U3 == _U1 and bits << shift == high:
        bits &= ~_U1  # exactly between two doubles: to the even one
    bits = (bits + (bits & _U1)) >> _U1
    if bits >> np.uint64(53) != _U0:
        bits >>= _U1
        exponent += 1
    return np.uint64(bits - _HIDDEN + (np.uint64(exponent) << _U52)).view(np.float64)


@kernel
def _product(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """a x b in 128 bits: the upper and the lower 64."""
    a1, a0, b1, b0 = a >> _U32, a & _LOW32, b >> _U32, b & _LOW32
    low, middle, other = a0 * b0, a1 * b0, a0 * b1
    carry = (low >> _U32) + (middle & _LOW32) + (other & _LOW32)
    high = a1 * b1 + (middle >> _U32) + (other >> _U32) + (carry >> _U32)
    return high, (carry << _U32) | (low & _LOW32)
