"""Changes in the form that they have: factors where they are smaller, whole otherwise, and nothing where nothing is."""

from __future__ import annotations

import json
import tracemalloc
from functools import partial

import numpy as np
import pytest
from tiny_rounds import make_changes, make_model, parse_file

from coldfuse.core.dtypes import from_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import blob_digest, sha256
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.changes import ChangesByName, DenseChange, LowRankChange, SparseChange, write_changes
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.encodings import DENSE, LowRank
from coldfuse.tensors.index_codes import IndexCode
from coldfuse.tensors.masks import open_mask, write_mask
from coldfuse.tensors.sparse_encodings import Masked, Sparse
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


def sparse(num: int, of: int, seed: int = 3) -> SparseChange:
    rng = np.random.default_rng(seed)
    return SparseChange(np.sort(rng.choice(of, num, replace=False)).astype(np.int64), rng.normal(size=num))


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


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_some_elements_are_stored_with_their_indices(tmp_path, dtype) -> None:
    change = sparse(9, 120)
    found, tensors = write(tmp_path / "delta", {"matrix": change}, dtype=dtype)
    assert found == {"matrix": Sparse(9)}
    expected = IndexCode(120, 9).encode(change.indices).tobytes()
    assert tensors["matrix|indices"].data == expected
    assert tensors["matrix|values"].data == from_floats(change.values, dtype).tobytes()


def test_as_many_elements_as_a_tensor_has_are_stored_whole(tmp_path) -> None:
    change = sparse(118, 120)
    found, tensors = write(tmp_path / "delta", {"matrix": change})
    expected = np.zeros(120, np.float32)
    expected[change.indices] = change.values
    assert (found, tensors["matrix"].data) == ({"matrix": DENSE}, expected.tobytes())


def test_elements_of_a_mask_are_stored_without_their_indices(tmp_path) -> None:
    change, other = sparse(9, 120), sparse(5, 12, seed=4)
    blob = write_mask(tmp_path / "mask", SCHEMA, {"matrix": change.indices, "dense": sparse(5, 12).indices})
    mask = open_mask(tmp_path / "mask")
    assert mask.digest == blob_digest(blob)
    write_changes(
        tmp_path / "delta", SCHEMA, {"matrix": change, "dense": other}, dtype="F32", base_digest=BASE, mask=mask
    )
    header = read_file_header(tmp_path / "delta")
    found = check_delta(header, SCHEMA, base_digest=BASE, what="d", mask=mask.file.header)
    assert found == {"matrix": Masked(9), "dense": Sparse(5)}  # of the second tensor other elements than the mask's
    assert header.metadata["mask"] == mask.digest
    assert set(header.schema) == {"matrix|values", "dense|values", "dense|indices"}
    with pytest.raises(SchemaMismatchError, match="'matrix': its elements are those of a mask, which is not here"):
        check_delta(header, SCHEMA, base_digest=BASE, what="d")


def test_what_changes_nothing_is_left_out(tmp_path) -> None:
    up, down = np.zeros((12, 2)), np.ones((2, 10))
    changes = {
        "matrix": LowRankChange(up, down), "dense": dense(np.zeros(12)), "positions": dense(np.ones(120)),
        "convolution": SparseChange(np.array([], np.int64), np.array([])),
    }  # fmt: skip
    assert write(tmp_path / "delta", changes) == ({}, {})


@pytest.mark.parametrize(
    ("dtype", "digest"), [("F32", "f242e6336bb8aa06"), ("BF16", "c419ed039d192152"), ("F16", "bdd4129f4b3500f5")]
)
def test_a_delta_without_factors_is_the_file_that_it_always_was(tmp_path, dtype, digest) -> None:
    schema = {"a.weight": TensorSpec(dtype="F32", shape=(30, 20)), "b": TensorSpec(dtype="BF16", shape=(7,))}
    rng = np.random.default_rng(0)
    changes = {name: dense(rng.normal(size=spec.num_elements)) for name, spec in schema.items()}
    write_changes(tmp_path / "delta", schema, changes, dtype=dtype, base_digest="b" * 64)
    assert sha256((tmp_path / "delta").read_bytes()).startswith(digest)
    assert read_file_header(tmp_path / "delta").metadata["version"] == "1"


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_what_changed_is_written_rounded_once(tmp_path, dtype) -> None:
    schema = {name: tensor.spec for name, tensor in make_model().items()}
    changes = {name: change.reshape(-1) for name, change in make_changes(make_model(), seed=1).items()}
    values = dict.fromkeys(schema, np.zeros(1 << 10)) | changes | {"layer.bias": np.zeros(8)}
    asked = []

    def read(name: str, first: int, count: int):
        asked.append(name)
        return values[name][first : first + count]

    made = ChangesByName(schema, lambda name: DenseChange(partial(read, name)))
    blob = write_changes(tmp_path / "delta", schema, made, dtype=dtype, base_digest=BASE)
    data = (tmp_path / "delta").read_bytes()
    written = {name: tensor.data for name, tensor in parse_file(data).items()}
    assert written == {
        name: from_floats(change, dtype).tobytes() for name, change in changes.items() if name != "layer.bias"
    }
    assert blob.size_bytes == len(data)
    assert "position_ids" not in asked  # integers are no weights


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
        (SparseChange(np.array([1, 5]), np.ones(3)), SchemaMismatchError, "3 values, expected one for each of 2"),
        (SparseChange(np.array([1, 5]), np.full(2, np.inf)), UserInputError, "not finite"),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_change_that_does_not_fit_is_refused(tmp_path, change, error, says) -> None:
    with pytest.raises(error, match=f"tensor matrix: .*{says}"):
        write(tmp_path / "delta", {"matrix": change})
    assert not (tmp_path / "delta").exists()


def test_no_more_is_held_than_a_part_and_a_tensor(tmp_path) -> None:
    """Of 128 MiB of changes, each of which is made when it is asked for."""
    schema = {f"layer.{i}": TensorSpec(dtype="F32", shape=(1024, 1024)) for i in range(32)}
    made = ChangesByName(schema, lambda name: dense(np.full(1 << 20, float(name[6:]) + 1, np.float32)))
    tracemalloc.start()
    try:
        blob = write_changes(tmp_path / "delta", schema, made, dtype="F32", base_digest=BASE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert blob.size_bytes > 128 << 20
    assert peak < 56 << 20
