"""The sorting network: whatever the number of contributions, every column ends up sorted."""

from __future__ import annotations

from itertools import product

import numpy as np
from sampling import examples

from coldfuse.fusion.robust.sorting import network, sort_contributions


@examples(count=range(1, 13))
def test_network_sorts_every_column_of_zeros_and_ones(count: int) -> None:
    """By the 0-1 principle it then sorts everything."""
    for values in product((0, 1), repeat=count):
        column = list(values)
        for low, high in network(count):
            if column[high] < column[low]:
                column[low], column[high] = column[high], column[low]
        assert column == sorted(values)


@examples(num_elements=[1, 64, 3000], count=[1, 2, 3, 8, 17, 64, 65])
def test_columns_are_sorted(count: int, num_elements: int) -> None:
    deltas_CN = np.random.default_rng(count).normal(size=(count, num_elements)).round(1) + 0.0
    expected = [sorted(column) for column in deltas_CN.T]
    sort_contributions(deltas_CN)
    assert deltas_CN.T.tolist() == expected


def test_rows_may_lie_apart_in_memory() -> None:
    wide = np.random.default_rng(0).normal(size=(5, 300))
    before = wide.copy()
    sort_contributions(wide[:, 100:200])
    assert np.array_equal(wide[:, 100:200], np.sort(before[:, 100:200], axis=0))
    assert np.array_equal(wide[:, :100], before[:, :100])
    assert np.array_equal(wide[:, 200:], before[:, 200:])


def test_subnormal_and_huge_values_keep_their_bits() -> None:
    deltas_CN = np.array([[1e308, 5e-324], [-5e-324, 0.0], [-1e308, -1e-310]])
    sort_contributions(deltas_CN)
    assert deltas_CN.tolist() == [[-1e308, -1e-310], [-5e-324, 0.0], [1e308, 5e-324]]


def test_minus_zero_becomes_zero_so_that_no_order_of_contributions_shows() -> None:
    deltas_CN = np.array([[0.0, -0.0, -0.0], [-0.0, 0.0, -0.0]])
    sort_contributions(deltas_CN)
    assert not np.signbit(deltas_CN).any()
