"""Windows of counters close in on exactly the ranks that sorting finds, whatever the first guess was."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.fusion.selection import Windows, all_keys, count, guess, narrow, nothing

RANKS = (0, 1, 700, 2_500, 2_999)


def drawn(seed: int) -> np.ndarray:
    """Two rows with ties, zeros of both signs, subnormal and huge numbers."""
    values = np.random.default_rng(seed).normal(size=(2, 3_000)).round(2)
    values[:, :5] = [0.0, -0.0, 1e-42, -1e30, 1e30]
    return values


def ranked(windows: Windows, values_RN: np.ndarray) -> tuple[np.ndarray, int]:
    """The values at the windows' ranks, counted in two tasks, and after how many passes they are known."""
    passes = 0
    while (found := windows.found) is None:
        total = nothing(windows, values_RN.size)
        for part in np.array_split(values_RN, 2, axis=1):
            counts = nothing(windows)
            count(windows, np.ascontiguousarray(part), counts)
            total.add(counts.pack())
        windows, passes = narrow(windows, total), passes + 1
    return found.reshape(len(values_RN), -1), passes


@pytest.mark.parametrize("sample", ["none", "good", "bad", "of equals"])
def test_ranks_are_those_of_sorting(sample: str) -> None:
    values_RN = drawn(0)
    windows = all_keys(2, RANKS, values_RN.shape[1])
    if sample != "none":
        factor = {"good": 1.0, "bad": 1e-3, "of equals": 0.0}[sample]
        sample_RM = (factor * values_RN)[:, ::7].astype(np.float32)
        windows = guess(windows, sample_RM, values_RN.shape[1])
    found, passes = ranked(windows, values_RN)
    expected = np.sort(np.abs(values_RN).astype(np.float32), axis=1)[:, list(RANKS)]
    assert found.tolist() == expected.astype(np.float64).tolist()
    assert passes < 8


def test_a_rank_among_equals_is_found_at_once_by_a_good_guess() -> None:
    values_RN = np.full((1, 3_000), 0.5)
    windows = guess(all_keys(1, RANKS, 3_000), values_RN[:, :100].astype(np.float32), 3_000)
    assert ranked(windows, values_RN)[1] == 1
