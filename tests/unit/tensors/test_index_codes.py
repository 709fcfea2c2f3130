"""Sorted indices in few bits: any range of them can be had, and what is no code is refused."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.errors import CodecError
from coldfuse.tensors.index_codes import BLOCK, IndexCode


def some(num_elements: int, count: int, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).choice(num_elements, count, replace=False)).astype(np.int64)


def reader(code: np.ndarray):
    def read(first: int, count: int) -> np.ndarray:
        assert 0 <= first <= first + count <= len(code)
        return code[first : first + count].copy()

    return read


@pytest.mark.parametrize(
    ("num_elements", "count"),
    [(1, 1), (7, 1), (7, 7), (64, 3), (BLOCK, 1), (BLOCK, BLOCK), (BLOCK + 1, 2), (3 * BLOCK + 5, 1000), (500_000, 9)],
)
def test_any_range_of_indices_is_decoded(num_elements: int, count: int) -> None:
    indices, code = some(num_elements, count), IndexCode(num_elements, count)
    data = code.encode(indices)
    assert len(data) == code.size_bytes
    edges = sorted({0, 1, num_elements // 2, num_elements - 1, min(BLOCK, num_elements - 1)} - {num_elements})
    for first in edges:
        for length in {1, num_elements - first, min(100, num_elements - first)}:
            before, found = code.decode(reader(data), first, length)
            assert before == np.count_nonzero(indices < first)
            assert found.tolist() == indices[(indices >= first) & (indices < first + length)].tolist()


@pytest.mark.parametrize(("share", "bits"), [(0.005, 9.9), (0.0156, 8.2), (0.1, 5.4), (0.5, 3.1)])
def test_an_index_takes_as_few_bits_as_are_promised(share: float, bits: float) -> None:
    num_elements = 1 << 22
    assert 8 * IndexCode(num_elements, int(share * num_elements)).size_bytes <= bits * share * num_elements


@pytest.mark.parametrize("byte", range(40))
def test_a_code_with_a_flipped_bit_is_another_code_or_none(byte: int) -> None:
    indices, code = some(300, 20), IndexCode(300, 20)
    data = code.encode(indices)
    data[byte % len(data)] ^= 1 << (byte % 8)
    try:
        before, found = code.decode(reader(data), 0, 300)
    except CodecError:
        return
    assert before == 0
    assert len(found) == 20
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < 300


def test_two_of_one_and_one_outside_are_refused() -> None:
    code = IndexCode(300, 20)
    indices = some(300, 20)
    for wrong in (np.where(indices == indices[3], indices[2], indices), np.append(indices[:-1], 305)):
        with pytest.raises(CodecError, match="indices"):
            code.decode(reader(code.encode(wrong)), 0, 300)


def test_a_directory_that_promises_more_than_there_is_asks_for_nothing() -> None:
    code = IndexCode(10 * BLOCK, 50)
    data = code.encode(some(10 * BLOCK, 50))
    data[:72] = np.full(9, 1 << 60, "<u8").view(np.uint8)
    with pytest.raises(CodecError, match="a block ends after"):
        code.decode(reader(data), 3 * BLOCK, BLOCK)
