"""Codes of statistics: what is written is read, within the bound that the format states, on every machine alike."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.core.statistics import Coding
from coldfuse.tensors.coded_statistics import decode_gram, encode_gram, is_gram
from coldfuse.tensors.codes import BLOCK, coded_bytes, coded_range, decode_values, encode_values, gram_bytes


def both_ways(values: np.ndarray, coding: Coding, *, is_signed: bool = False) -> np.ndarray:
    data = encode_values(values, coding, is_signed=is_signed)
    assert len(data) == coded_bytes(len(values), coding)
    return decode_values(np.frombuffer(data, np.uint8), len(values), coding, is_signed=is_signed)


def spread(count: int, *, octaves: float, seed: int = 0) -> np.ndarray:
    return np.exp2(np.random.default_rng(seed).uniform(-octaves, 0, size=count))


@pytest.mark.parametrize("count", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize(("coding", "octaves", "bound"), [("F16", 20, 2**-11), ("log8", 8, 0.017), ("log8", 30, 0.05)])
def test_a_number_is_off_by_no_more_than_the_format_says(
    coding: Coding, octaves: float, bound: float, count: int
) -> None:
    for scale in (1e-30, 1.0, 1e30):
        values = spread(count, octaves=octaves) * scale
        np.testing.assert_allclose(both_ways(values, coding), values, rtol=bound)


@pytest.mark.parametrize("coding", ["F16", "log8"])
def test_zeros_stay_zeros_and_nothing_else_becomes_one(coding: Coding) -> None:
    values = spread(2 * BLOCK, octaves=90)
    values[::3] = 0
    read = both_ways(values, coding)
    assert ((read == 0) == (values == 0)).all()
    assert not both_ways(np.zeros(5), coding).any()


def test_signed_numbers_keep_their_sign_and_tiny_ones_vanish() -> None:
    values = spread(BLOCK, octaves=12) * np.where(np.arange(BLOCK) % 2, 1, -1)
    np.testing.assert_allclose(both_ways(values, "log8", is_signed=True), values, rtol=0.05)
    assert both_ways(np.array([1.0, -1e-12, 1e-12]), "log8", is_signed=True).tolist()[1:] == [0, 0]


def test_the_bits_of_a_code_are_the_same_everywhere() -> None:
    raw = np.concatenate([np.array([-100, 3], "<i4").view(np.uint8), np.arange(256, dtype=np.uint8)])
    read = decode_values(raw, 256, "log8", is_signed=False)
    assert [value.hex() for value in read[[0, 1, 2, 255]]] == [
        "0x0.0p+0", "0x1.5ab07dd485429p-2", "0x1.6623882552225p-2", "0x1.44e086061892dp+10",
    ]  # fmt: skip
    assert decode_values(raw, 256, "log8", is_signed=True)[129] == -read[1]


def test_a_range_of_elements_is_read_from_its_blocks_alone() -> None:
    values = spread(3 * BLOCK + 7, octaves=5)
    data, whole = encode_values(values, "log8", is_signed=False), both_ways(values, "log8")
    for first, count in ((0, 1), (BLOCK - 1, 2), (BLOCK + 5, BLOCK), (3 * BLOCK, 7)):
        begin, start, stop = coded_range(first, count, "log8")
        raw = np.frombuffer(data[start:stop], np.uint8)
        num = min(-(-(first + count) // BLOCK) * BLOCK, len(values)) - begin
        read = decode_values(raw, num, "log8", is_signed=False)
        assert (read[first - begin : first - begin + count] == whole[first : first + count]).all()


@pytest.mark.parametrize("coding", ["F16", "log8"])
@pytest.mark.parametrize("tokens", [3, 400])
def test_a_gram_matrix_stays_one_whatever_the_size_of_its_inputs(coding: Coding, tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    inputs = rng.normal(size=(tokens, 30)) * np.exp(3 * rng.normal(size=30))
    inputs[:, 4] = 0
    gram = inputs.T @ inputs / tokens
    for shortening in (0.0, 0.1, 0.2):
        data = encode_gram(gram, coding, shortening=shortening)
        assert len(data) == gram_bytes(30, coding)
        read = decode_gram(np.frombuffer(data, np.uint8), 30, coding)
        assert (read == read.T).all()
        np.testing.assert_allclose(np.diag(read), np.diag(gram), rtol=2**-9)
    assert is_gram(read)
    assert not is_gram(-gram)
    assert not is_gram(gram - 2 * np.diag(np.diag(gram)) * 0.9)
