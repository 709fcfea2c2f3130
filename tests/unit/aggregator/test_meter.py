from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from coldfuse.aggregator.meter import LayerGroups, Meter
from coldfuse.core.contribution import MAX_GROUPS
from coldfuse.core.schema import TensorSpec

SIZE = 200_000
SCHEMA = {
    "embeddings.weight": TensorSpec(dtype="F32", shape=(SIZE,)),
    "layer.0.weight": TensorSpec(dtype="F32", shape=(7,)),
    "layer.1.weight": TensorSpec(dtype="F32", shape=(7,)),
    "norm": TensorSpec(dtype="F32", shape=(3,)),
    "positions": TensorSpec(dtype="I64", shape=(3,)),
}
VALUES = {
    name: np.random.default_rng(len(name)).normal(size=spec.num_elements).astype(np.float32)
    for name, spec in SCHEMA.items()
    if spec.is_fused
}


def measure(cuts: list[int]):
    meter = Meter(LayerGroups(SCHEMA), seed="secret")
    for name, values in VALUES.items():
        places = [0, *(cut for cut in cuts if cut < len(values)), len(values)]
        for first, end in pairwise(places):
            meter.add(name, first, values[first:end])
    return meter.measured("full, dense")


def test_lengths_are_those_of_the_formula() -> None:
    found = measure([])
    assert found.norm == pytest.approx(np.linalg.norm(np.concatenate(list(VALUES.values())).astype(float)), rel=1e-8)
    assert found.layers == pytest.approx([np.linalg.norm(values) for values in VALUES.values()], rel=1e-3)
    assert found.num_changed == sum(len(values) for values in VALUES.values())


@pytest.mark.parametrize("cuts", [[1], [65_536], [65_535, 65_537, 131_072], list(range(0, SIZE, 9973))[1:]])
def test_what_is_found_does_not_depend_on_how_a_delta_is_cut(cuts: list[int]) -> None:
    whole, cut = measure([]), measure(cuts)
    assert (cut.sketch, cut.num_changed, cut.layers) == (whole.sketch, whole.num_changed, whole.layers)
    assert cut.norm == pytest.approx(whole.norm, rel=1e-8)


@pytest.mark.parametrize("num_layers", [0, 1, 12, 14, 15, 24, 126])
def test_groups_of_layers_are_few_and_named(num_layers: int) -> None:
    names = ["embeddings.weight", *(f"layer.{i}.weight" for i in range(num_layers)), "pooler.weight"]
    groups = LayerGroups({name: TensorSpec(dtype="F32", shape=(1,)) for name in names})
    assert len(groups) == len(groups.names) <= MAX_GROUPS
    numbers = [groups[name] for name in names]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(len(groups)))
    if num_layers:
        assert groups.names[groups[f"layer.{num_layers - 1}.weight"]].endswith(f" {num_layers - 1}")
    assert (groups.names[0], groups.names[-1]) == ("the embeddings", "what is in no layer")


def test_nothing_is_known_of_a_delta_of_zeros() -> None:
    meter = Meter(LayerGroups(SCHEMA), seed="secret")
    meter.add("norm", 0, np.zeros(3, np.float32))
    found = meter.measured("full, dense")
    assert (found.norm, found.num_changed, found.sketch) == (0.0, 0, "")
