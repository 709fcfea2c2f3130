from __future__ import annotations

import numpy as np
import pytest

from coldfuse.aggregator.meter import LayerGroups, Meter
from coldfuse.core.contribution import Admission
from coldfuse.core.copies import Known
from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import sha256

SIZE = 100_000
SCHEMA = {"layer.0.weight": TensorSpec(dtype="F32", shape=(SIZE,))}
RNG = np.random.default_rng(0)
ORIGINAL = RNG.normal(size=SIZE).astype(np.float32)
OTHER = RNG.normal(size=SIZE).astype(np.float32)


def admission(values: np.ndarray, name: str, *, seed: str = "s") -> Admission:
    meter = Meter(LayerGroups(SCHEMA), seed=seed)
    meter.add("layer.0.weight", 0, values)
    return Admission(
        contribution=sha256(name.encode()), contributor=name, delta_digest=sha256(values.tobytes()), num_examples=1,
        measured=meter.measured("full, dense"),
    )  # fmt: skip


def told(values: np.ndarray, *known: np.ndarray) -> str | None:
    there = [admission(each, f"n{index}") for index, each in enumerate(known)]
    return Known(there, rules=ScreeningRules()).why_copy(admission(values, "thief"))


@pytest.mark.parametrize(
    ("copy", "words"),
    [
        (ORIGINAL, "its delta is that of contribution"),
        (ORIGINAL * np.float32(0.01), "the same way as that of contribution"),
        (ORIGINAL * np.float32(1000), "a copy, whatever its length"),
        (-ORIGINAL, "exactly against that of contribution"),
        (ORIGINAL + np.float32(0.02) * OTHER, "the same way as that of contribution"),
        (to_floats(from_floats(ORIGINAL, "BF16"), "BF16"), "the same way as that of contribution"),
        (np.where(np.arange(SIZE) % 2000, ORIGINAL, 0).astype(np.float32), "the same way as that of contribution"),
    ],
    ids=["the same", "shorter", "longer", "turned round", "noise", "another dtype", "some left out"],
)
def test_copies_are_known_as_such(copy: np.ndarray, words: str) -> None:
    assert words in str(told(copy, OTHER, ORIGINAL))


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9, 0.98])
def test_what_only_resembles_another_is_no_copy(cosine: float) -> None:
    """Contributors who train on like tasks get like deltas."""
    for seed in range(10):
        noise = np.random.default_rng(100 + seed).normal(size=SIZE)
        alike = (cosine * ORIGINAL + (1 - cosine**2) ** 0.5 * noise).astype(np.float32)
        assert told(alike, ORIGINAL, OTHER) is None


def test_deltas_of_few_elements_are_copies_only_if_they_are_the_same() -> None:
    few, more = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    few[0], more[0] = 0.5, 3.0
    assert told(more, few) is None
    assert told(few, few) is not None


def test_the_first_of_many_is_named() -> None:
    known = [np.random.default_rng(200 + seed).normal(size=SIZE)[:3000].astype(np.float32) for seed in range(70)]
    assert sha256(b"n66")[:12] in str(told(known[66] * np.float32(2), *known))


def test_where_a_sketch_looks_is_a_secret_of_the_round() -> None:
    one, other = (admission(ORIGINAL, "a", seed=seed).measured for seed in ("s", "t"))
    assert one is not None
    assert other is not None
    assert (one.norm, one.layers) == (other.norm, other.layers)
    assert one.sketch != other.sketch
