"""What encodings expand to: the same bits whatever run is asked for, by reading no more than it takes."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.tensors.encodings import WIDE, LowRank
from coldfuse.tensors.index_codes import BLOCK, IndexCode
from coldfuse.tensors.products import multiply
from coldfuse.tensors.said_encodings import class_of, parse_encoding
from coldfuse.tensors.sparse_encodings import Sparse


def reader(parts, most: int = 1 << 62):
    def read(part: str, first: int, count: int):
        assert 0 <= first <= first + count <= len(parts[part])
        assert count <= most
        return parts[part][first : first + count]

    return read


@pytest.mark.parametrize("shape", [(12, 10), (7, 3, 2, 2), (5,), (1, 40), (3, WIDE + 5), (2, 3 * WIDE), (WIDE + 9, 2)])
@pytest.mark.parametrize("rank", [1, 3])
def test_any_run_of_a_product_has_the_bits_of_the_whole(shape: tuple[int, ...], rank: int) -> None:
    rows, columns = shape[0], int(np.prod(shape[1:]))
    rng = np.random.default_rng(0)
    up, down = rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))
    whole = (0.3 * multiply(up, down)).reshape(-1)
    read = reader({"up": up.reshape(-1), "down": down.reshape(-1)}, most=max(WIDE, columns, rows * rank))
    for first, wanted in ((0, whole.size), (1, whole.size - 1), (whole.size // 2, 1), (columns // 2, min(columns, 99))):
        count = min(wanted, whole.size - first)
        found = LowRank(rank, 0.3).delta(shape, read, first, count)
        assert found.tobytes() == whole[first : first + count].tobytes()


def test_a_product_of_a_high_rank_is_made_of_few_ranks_at_a_time() -> None:
    rng = np.random.default_rng(0)
    up, down = rng.normal(size=(4, 300)), rng.normal(size=(300, 1000))
    read = reader({"up": up.reshape(-1), "down": down.reshape(-1)}, most=WIDE)
    found = LowRank(300, 2.0).delta((4, 1000), read, 0, 4000)
    assert found.tobytes() == (2.0 * multiply(up, down)).reshape(-1).tobytes()


def test_a_product_of_the_transposes_has_the_same_bits() -> None:
    """As a layer that stores inputs × outputs has them: what PEFT calls A and B change places."""
    rng = np.random.default_rng(1)
    up, down = rng.normal(size=(9, 4)), rng.normal(size=(4, 6))
    one = LowRank(4, 0.7).delta((9, 6), reader({"up": up.reshape(-1), "down": down.reshape(-1)}), 0, 54)
    turned = {"up": down.T.reshape(-1), "down": up.T.reshape(-1)}
    other = LowRank(4, 0.7).delta((6, 9), reader(turned), 0, 54)
    assert one.reshape(9, 6).T.tobytes() == other.reshape(6, 9).tobytes()


@pytest.mark.parametrize(("num_elements", "count"), [(7, 2), (BLOCK, 50), (2 * BLOCK + 3, 900)])
def test_any_run_of_single_elements_is_that_of_the_whole(num_elements: int, count: int) -> None:
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(num_elements, count, replace=False)).astype(np.int64)
    values, whole = rng.normal(size=count), np.zeros(num_elements)
    whole[indices] = values
    read = reader({"indices": IndexCode(num_elements, count).encode(indices), "values": values})
    for first, length in ((0, num_elements), (1, 1), (num_elements // 2, num_elements // 3 + 1), (num_elements - 1, 1)):
        found = Sparse(count).delta((num_elements,), read, first, length)
        assert found.tobytes() == whole[first : first + length].tobytes()


def test_what_is_said_of_an_encoding_says_all_of_it() -> None:
    for how in (LowRank(3, 1 / 3), LowRank(1, 1e-300), Sparse(9)):
        assert parse_encoding("w", how.said()) == how
    assert class_of({}) == "dense"
