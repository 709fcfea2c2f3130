from __future__ import annotations

import gc
import pickle
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import floats, write_file

from coldfuse.engine.job import Fusion
from coldfuse.engine.operands import operands
from coldfuse.engine.plan import Inputs, plan_shards
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.shard import fuse_shard
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.tensor_file import TensorFile, read_file_header

NUM_ELEMENTS = 100_000

FEW, MANY = 8, 64


def peak_of_a_fusion(folder: Path, num_contributions: int, dtype: str, method: str) -> int:
    """Return the peak of fusing one part, of models that all lie in one file."""
    path = folder / "model"
    write_file(path, {"a": floats(np.linspace(-1, 1, NUM_ELEMENTS), dtype)})
    header = read_file_header(path)
    base, other = (operands([TensorFile(LocalFile(path), header)], is_delta=is_delta) for is_delta in (False, True))
    inputs = Inputs(base=base, contributions=[other] * num_contributions)
    shard = plan_shards({"model": header}, inputs)["model"][1]
    fusion = Fusion(
        recipe=read_recipe(method),
        weights=(1.0,) * num_contributions,
        names=tuple(map(str, range(num_contributions))),
        num_elements=NUM_ELEMENTS,
    )
    if num_contributions == FEW:
        list(fuse_shard(fusion, shard))  # the first run imports and compiles
    tracemalloc.start()
    try:
        with ThreadPoolExecutor(1) as pool:  # a new thread has no buffers yet
            pool.submit(lambda: list(fuse_shard(fusion, shard))).result()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("method", "dtype"), [("mean", "BF16"), ("median", "F32"), ("dare then ties(density=1)", "BF16")]
)
def test_the_peak_does_not_depend_on_the_number_of_contributions(tmp_path: Path, method: str, dtype: str) -> None:
    few, many = (peak_of_a_fusion(tmp_path, count, dtype, method) for count in (FEW, MANY))
    assert few > NUM_ELEMENTS  # it was measured
    assert many <= 1.05 * few


def test_what_tasks_share_goes_when_the_fusion_is_done(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_file(path, {"a": floats(np.linspace(-1, 1, 8), "F32")})
    file = TensorFile(LocalFile(path), read_file_header(path))
    inputs = Inputs(base=operands([file], is_delta=False), contributions=[operands([file], is_delta=True)] * 2)
    shard = plan_shards({"model": file.header}, inputs)["model"][1]
    fusion = Fusion(recipe=read_recipe("mean"), weights=(1.0, 1.0), names=("a", "b"), num_elements=8)
    list(fuse_shard(fusion, shard))
    assert "info" not in vars(pickle.loads(pickle.dumps(fusion)))  # nor does it travel
    alive = weakref.ref(fusion)
    del fusion
    gc.collect()
    assert alive() is None
