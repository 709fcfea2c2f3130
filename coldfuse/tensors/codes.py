"""Numbers that span many orders of magnitude in 8 or 16 bits: blocks of codes with a scale of their own.

A tensor's elements, in row-major order, are cut into blocks of 4096, the last one shorter. Each block is two little-
endian int32, `first` and `step`, and then a code for each element:

    F16           value = 2^first · half                                          step is 0
    log8          value = 0 for code 0, else 2^((first + step · (code − 1)) / 64)
    log8, signed  the highest bit of a code is the sign, and the other seven are a code as above

Powers come from a table of 64 correctly rounded numbers and exact shifts of the exponent, so that every machine reads
the same bits. A block spans up to 32 octaves (signed: 16); what is nearer to 0 than that becomes the least code, or
signed 0. Then a value is off by at most 2^(step/128) − 1: 5 % at a step of 9.

Letters: N elements.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import Raw
from coldfuse.core.statistics import Coding

Float64 = NDArray[np.float64]

BLOCK = 4096
"""Number of elements of a block."""

_HEAD_BYTES = 8
_UNITS = 64
"""Number of steps of an exponent in an octave, at the finest."""

_OCTAVES = {False: 32, True: 16}
"""How far a block of logarithms reaches below its largest number, unsigned and signed."""

_CODES = {False: 255, True: 127}
"""Number of codes other than that of 0, unsigned and signed."""

_HALF_EXPONENT = 14
"""Exponent that a block's largest number is given: float16 ends at 2^16."""

MAX_EXPONENT = 1 << 12
"""Exponents beyond this are no float64's: who writes them means no number."""


def coded_bytes(num_elements: int, coding: Coding) -> int:
    """Return the size of a coded tensor.

    >>> coded_bytes(4097, "log8"), coded_bytes(0, "F16")
    (4113, 0)
    """
    return num_elements * item_bytes(coding) + -(-num_elements // BLOCK) * _HEAD_BYTES


def gram_bytes(size: int, coding: Coding) -> int:
    """Return the size of a coded Gram matrix: the roots of its diagonal as F16, and its upper triangle of correlations.

    >>> gram_bytes(3, "log8")
    25
    """
    return coded_bytes(size, "F16") + coded_bytes(size * (size - 1) // 2, coding)


def item_bytes(coding: Coding) -> int:
    """Return the size of a code."""
    return 2 if coding == "F16" else 1


def coded_range(first: int, count: int, coding: Coding) -> tuple[int, int, int]:
    """Return the first element of the blocks that hold some elements, and the first byte and the end of these blocks.

    The end may lie behind the tensor's, whose last block may be shorter.
    """
    block_bytes = _HEAD_BYTES + BLOCK * item_bytes(coding)
    block, end = first // BLOCK, -(-(first + count) // BLOCK)
    return block * BLOCK, block * block_bytes, end * block_bytes


def encode_values(values_N: Float64, coding: Coding, *, is_signed: bool) -> bytes:
    """Write finite numbers as codes; `values_N` begins with a block."""
    blocks = (values_N[start : start + BLOCK] for start in range(0, len(values_N), BLOCK))
    if coding == "F16":
        return b"".join(map(_half_block, blocks))
    return b"".join(_log_block(block_N, is_signed=is_signed) for block_N in blocks)


def decode_values(raw: Raw, num_elements: int, coding: Coding, *, is_signed: bool) -> Float64:
    """Read the numbers of whole blocks; what no number is coded as comes out as infinity."""
    values_N, item = np.empty(num_elements), item_bytes(coding)
    at = 0
    for start in range(0, num_elements, BLOCK):
        size = min(BLOCK, num_elements - start)
        first, step = (int(x) for x in raw[at : at + _HEAD_BYTES].view("<i4"))
        codes = raw[at + _HEAD_BYTES : at + _HEAD_BYTES + size * item]
        at += _HEAD_BYTES + size * item
        out_N = values_N[start : start + size]
        if abs(first) > MAX_EXPONENT * _UNITS or not 0 <= step <= MAX_EXPONENT:
            out_N[:] = np.inf
        elif coding == "F16":
            with np.errstate(over="ignore"):
                np.ldexp(codes.view("<f2").astype(np.float64), first, out=out_N)
        else:
            np.take(_table(first, step, is_signed=is_signed), codes, out=out_N)
    return values_N


def _half_block(values_N: Float64) -> bytes:
    largest = float(np.abs(values_N).max(initial=0.0))
    first = int(np.frexp(largest)[1]) - _HALF_EXPONENT if largest else 0
    halves = np.ldexp(values_N, -first).astype("<f2")
    halves[(halves == 0) & (values_N > 0)] = np.finfo(np.float16).smallest_subnormal  # what is not 0 stays so
    return np.array([first, 0], "<i4").tobytes() + halves.tobytes()


def _log_block(values_N: Float64, *, is_signed: bool) -> bytes:
    sizes_N, most = np.abs(values_N), _CODES[is_signed]
    is_zero_N = sizes_N == 0
    if is_zero_N.all():
        return bytes(_HEAD_BYTES + len(values_N))
    exponents_N = np.zeros(len(values_N))
    np.log2(sizes_N, out=exponents_N, where=~is_zero_N)
    exponents_N *= _UNITS
    known = exponents_N[~is_zero_N]
    last = float(known.max())
    least = max(float(known.min()), last - _OCTAVES[is_signed] * _UNITS)
    if is_signed:  # what is nearer to 0 than to the least that is written is 0; unsigned, 0 means something
        is_zero_N |= exponents_N < least - _UNITS
    step = max(int(np.ceil((last - least) / (most - 1))), 1)
    first = int(np.rint(last)) - step * (most - 1)
    codes_N = np.clip(np.rint((exponents_N - first) / step), 0, most - 1) + 1
    codes_N[is_zero_N] = 0
    codes = codes_N.astype(np.uint8)
    if is_signed:
        codes[(values_N < 0) & ~is_zero_N] |= 0x80
    return np.array([first, step], "<i4").tobytes() + codes.tobytes()


def _table(first: int, step: int, *, is_signed: bool) -> Float64:
    """Return the value of each code of a block."""
    units = first + step * np.arange(_CODES[is_signed], dtype=np.int64)
    with np.errstate(over="ignore", under="ignore"):
        sizes = np.ldexp(_ROOTS[units % _UNITS], (units // _UNITS).astype(np.int32))
    values = np.concatenate([[0.0], sizes])
    return np.concatenate([values, -values]) if is_signed else values


def _roots() -> Float64:
    with localcontext() as context:
        context.prec = 40
        return np.array([float(Decimal(2) ** (Decimal(i) / _UNITS)) for i in range(_UNITS)])


_ROOTS = _roots()
"""2^(i/64), each rounded once."""
