"""How many hostile contributions a method says it can stand: no more than that move its result out of reach."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import FusionError
from coldfuse.fusion.in_memory import InMemory

NUM_ELEMENTS = 40
LINES = (
    "median", "trimmed-mean", "trimmed-mean(trim=0.4)", "geometric-median", "krum(byzantine=1)", "krum(byzantine=2)",
    "multi-krum(byzantine=2)", "bulyan(byzantine=1)", "centred-clip",
)  # fmt: skip


def fuse(line: str, deltas: list[np.ndarray]) -> np.ndarray:
    base = {"": np.zeros(NUM_ELEMENTS)}
    fused = InMemory(recipe=read_recipe(line), base=base, deltas=[{"": delta} for delta in deltas]).fuse()
    return fused[""]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("attack", ["one far point", "opposite ways", "against the others"])
@pytest.mark.parametrize("count", [3, 5, 7, 11, 20])
def test_as_many_as_are_tolerated_move_nothing_out_of_reach(line: str, attack: str, count: int) -> None:
    num_bad = read_recipe(line).combiner.tolerates(count)
    if not num_bad and "byzantine" in line:
        with pytest.raises(FusionError, match="may be hostile"):
            fuse(line, [np.ones(NUM_ELEMENTS)] * count)
        return
    rng = np.random.default_rng(count)
    honest = [1.0 + 0.1 * rng.normal(size=NUM_ELEMENTS) for _ in range(count - num_bad)]
    far = {"one far point": 1e6, "opposite ways": 1e6, "against the others": -1e6}[attack]
    signs = [-1 if attack == "opposite ways" and index % 2 else 1 for index in range(num_bad)]
    bad = [far * sign * np.ones(NUM_ELEMENTS) for sign in signs]
    fused = fuse(line, honest + bad)
    assert np.abs(fused - 1).max() < 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mean", {1: 0, 10: 0}),
        ("ties", {10: 0}),
        ("geometric-median", {3: 0, 100: 0}),
        ("median", {0: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 10: 4}),
        ("trimmed-mean", {4: 0, 5: 1, 10: 2}),
        ("krum", {10: 0}),
        ("krum(byzantine=1)", {4: 0, 5: 1, 100: 1}),
        ("bulyan(byzantine=1)", {6: 0, 7: 1}),
        ("centred-clip", {9: 0, 10: 1}),
        ("clip then median then nesterov", {5: 2}),
    ],
)
def test_what_is_tolerated_is_what_the_papers_say(line: str, expected: dict[int, int]) -> None:
    combiner = read_recipe(line).combiner
    assert {count: combiner.tolerates(count) for count in expected} == expected
