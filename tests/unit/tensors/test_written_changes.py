"""Changes in the form that they have: factors where they are smaller, whole otherwise, and nothing where nothing is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_rounds import parse_file

from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import sha256
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.changes import DenseChange, LowRankChange, SparseChange, write_changes
from coldfuse.tensors.deltas import check_delta, write_delta
from coldfuse.tensors.encodings import DENSE, LowRank
from coldfuse.tensors.tensor_file import read_file_header

BASE = sha256(b"base")
SCHEMA = {
    "dense": TensorSpec(dtype="F32", shape=(12,)),
    "matrix": TensorSpec(dtype="BF16", shape=(12, 10)),
    "convolution": TensorSpec(dtype="F32", shape=(8, 2, 3, 3)),
    "positions": TensorSpec(dtype="I64", shape=(12, 10)),
}


def factors(rows: int, columns: int, rank: int, *, seed: int = 0, scale: float = 0.5) -> LowRankChange:
    rng = np.random.default_rng(seed)
    up, down = rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))
    return LowRankChange(up.astype(np.float32), down.astype(np.float32), scale)


def dense(values: np.ndarray) -> DenseChange:
    return DenseChange(lambda first, count: values.reshape(-1)[first : first + count])


def write(path, changes, *, schema=SCHEMA, dtype="F32"):
    write_changes(path, schema, changes, dtype=dtype, base_digest=BASE)
    found = check_delta(read_file_header(path), schema, base_digest=BASE, what="delta")
    return found, parse_file(path.read_bytes())


def test_a_product_is_stored_as_its_factors(tmp_path) -> None:
    changes = {"matrix": factors(12, 10, 2), "convolution": factors(8, 18, 3), "dense": dense(np.ones(12))}
    found, tensors = write(tmp_path / "delta", changes)
    assert found == {"matrix": LowRank(2, 0.5), "convolution": LowRank(3, 0.5), "dense": DENSE}
    assert {name: tensor.spec.shape for name, tensor in tensors.items()} == {
        "convolution|down": (3, 18), "convolution|up": (8, 3), "dense": (12,), "matrix|down": (2, 10),
        "matrix|up": (12, 2),
    }  # fmt: skip
    assert tensors["matrix|up"].data == changes["matrix"].up.tobytes()
    assert tensors["convolution|down"].data == changes["convolution"].down.tobytes()


def test_a_product_whose_factors_are_no_smaller_is_stored_whole(tmp_path) -> None:
    change = factors(12, 10, 6)  # 132 numbers, the tensor has 120
    found, tensors = write(tmp_path / "delta", {"matrix": change})
    assert found == {"matrix": DENSE}
    expected = np.zeros((12, 10))
    for k in range(6):
        expected += change.up[:, k, None].astype(np.float64) * change.down[k].astype(np.float64)
    assert tensors["matrix"].data == (0.5 * expected).astype(np.float32).tobytes()


def test_a_factor_that_would_have_the_name_of_a_tensor_is_not_written(tmp_path) -> None:
    schema = SCHEMA | {"matrix|up": TensorSpec(dtype="F32", shape=(4,))}
    found, tensors = write(tmp_path / "delta", {"matrix": factors(12, 10, 2)}, schema=schema)
    assert (found, set(tensors)) == ({"matrix": DENSE}, {"matrix"})


def test_what_changes_nothing_is_left_out(tmp_path) -> None:
    up, down = np.zeros((12, 2)), np.ones((2, 10))
    changes = {
        "matrix": LowRankChange(up, down), "dense": dense(np.zeros(12)), "positions": dense(np.ones(120)),
        "convolution": SparseChange(np.array([], np.int64), np.array([])),
    }  # fmt: skip
    assert write(tmp_path / "delta", changes) == ({}, {})


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_a_delta_without_factors_is_the_file_that_it_always_was(tmp_path, dtype) -> None:
    values = {name: np.random.default_rng(1).normal(size=SCHEMA[name].num_elements) for name in ("dense", "matrix")}
    write_changes(tmp_path / "new", SCHEMA, {n: dense(v) for n, v in values.items()}, dtype=dtype, base_digest=BASE)
    write_delta(
        tmp_path / "old", SCHEMA, values, lambda name, first, count: values[name][first : first + count],
        encoding=dtype, base_digest=BASE,
    )  # fmt: skip
    assert (tmp_path / "new").read_bytes() == (tmp_path / "old").read_bytes()
    assert read_file_header(tmp_path / "new").metadata["version"] == "1"


def test_each_change_is_held_alone(tmp_path) -> None:
    held: list[str] = []

    class Lazy(dict):
        def __getitem__(self, name):
            held.append(name)
            return factors(12, 10, 2)

    schema = {f"layer.{i}": SCHEMA["matrix"] for i in range(4)}
    write_changes(tmp_path / "delta", schema, Lazy.fromkeys(schema), dtype="F32", base_digest=BASE)
    assert held == sorted(schema) * 2
    assert json.loads(read_file_header(tmp_path / "delta").metadata["encodings"]).keys() == schema.keys()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (factors(12, 9, 2), SchemaMismatchError, r"factors of \[12, 2\] and \[2, 9\], expected 12 × r and r × 10"),
        (LowRankChange(np.ones((12, 2)), np.ones((3, 10))), SchemaMismatchError, "expected 12 × r"),
        (LowRankChange(np.full((12, 2), np.nan), np.ones((2, 10))), UserInputError, "not finite"),
        (LowRankChange(np.ones((12, 2)), np.ones((2, 10)), float("inf")), UserInputError, "not finite"),
        (SparseChange(np.array([1, 1]), np.ones(2)), SchemaMismatchError, "strictly ascending"),
        (SparseChange(np.array([1, 120]), np.ones(2)), SchemaMismatchError, "indices 1 to 120"),
        (SparseChange(np.array([-1, 5]), np.ones(2)), SchemaMismatchError, "indices -1 to 5"),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_change_that_does_not_fit_is_refused(tmp_path, change, error, says) -> None:
    with pytest.raises(error, match=f"tensor matrix: .*{says}"):
        write(tmp_path / "delta", {"matrix": change})
    assert not (tmp_path / "delta").exists()
