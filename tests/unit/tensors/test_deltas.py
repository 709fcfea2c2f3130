from __future__ import annotations

from pathlib import Path

import pytest
from tiny_rounds import make_changes, make_model, parse_file

from coldfuse.core.dtypes import from_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.deltas import check_delta, delta_header, write_safetensors
from coldfuse.tensors.header import format_header, parse_header

BASE = sha256(b"base")
SCHEMA = {name: tensor.spec for name, tensor in make_model().items()}
GOOD = {"format": "coldfuse-delta", "version": "1", "base": BASE, "encodings": '{"layer.bias":"dense"}'}
BIAS = ("layer.bias", TensorSpec(dtype="F32", shape=(8,)))


def check(tensors=(BIAS,), **metadata: str | None) -> None:
    given = {key: value for key, value in (GOOD | metadata).items() if value is not None}
    header = parse_header(format_header(tensors, given)[8:], what="d")
    check_delta(header, SCHEMA, base_digest=BASE, what="delta")


@pytest.mark.parametrize("encoding", ["F32", "BF16", "F16"])
def test_a_written_delta_is_read_by_the_library(tmp_path: Path, encoding) -> None:
    changes = make_changes(make_model(), seed=1)
    head = delta_header(SCHEMA, changes, encoding=encoding, base_digest=BASE)
    raw = {name: from_floats(change.reshape(-1), encoding) for name, change in changes.items()}
    item = 4 if encoding == "F32" else 2

    def read(piece):
        return raw[piece.tensor.name][piece.first * item : (piece.first + piece.num_elements) * item]

    blob = write_safetensors(tmp_path / "delta", head, read)
    data = (tmp_path / "delta").read_bytes()
    assert {name: tensor.data for name, tensor in parse_file(data).items()} == {n: r.tobytes() for n, r in raw.items()}
    assert blob.size_bytes == len(data)
    assert [part.digest for part in blob.parts] == [sha256(head), sha256(data[len(head) :])]
    check_delta(parse_header(head[8:], what="d"), SCHEMA, base_digest=BASE, what="delta")


def test_the_same_tensors_in_another_order_are_the_same_header() -> None:
    names = ["layer.weight", "layer.bias", "scale"]
    headers = {delta_header(SCHEMA, order, encoding="F32", base_digest=BASE) for order in (names, names[::-1])}
    assert len(headers) == 1


def test_a_delta_in_which_nothing_changed_is_taken() -> None:
    check((), encodings="{}")


@pytest.mark.parametrize(
    ("metadata", "error", "says"),
    [
        ({"format": "pt"}, CodecError, "not a coldfuse delta"),
        ({"format": None}, CodecError, "not a coldfuse delta"),
        ({"version": "3"}, CodecError, "delta version '3', this coldfuse knows 1 and 2"),
        ({"base": sha256(b"other")}, SchemaMismatchError, "made from base"),
        ({"base": None}, SchemaMismatchError, "made from base None"),
        ({"encodings": None}, CodecError, "encodings is not JSON"),
        ({"encodings": "{"}, CodecError, "encodings is not JSON"),
        ({"encodings": "[" * 100_000}, CodecError, "encodings is not JSON"),
        ({"encodings": "[]"}, CodecError, "encodings must map each tensor"),
        ({"encodings": "{}"}, SchemaMismatchError, "encoding None of F32, expected dense"),
        ({"encodings": '{"layer.bias":"sparse"}'}, SchemaMismatchError, "encoding 'sparse' of F32"),
        ({"encodings": '{"layer.bias":["dense"]}'}, SchemaMismatchError, "of F32, expected dense"),
    ],
    ids=range(12),
)
def test_a_delta_that_says_something_else_is_refused(metadata, error, says) -> None:
    with pytest.raises(error, match=says):
        check(**metadata)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "says"),
    [
        ("classifier.weight", "F32", (2, 8), "the base has no such tensor"),
        ("position_ids", "I64", (10,), "dtype I64 is never fused"),
        ("position_ids", "F32", (10,), "dtype I64 is never fused"),
        ("empty", "F32", (0, 4), "never fused"),
        ("layer.bias", "F32", (4, 2), r"shape \[4, 2\], base has \[8\]"),
        ("layer.bias", "F32", (9,), r"shape \[9\], base has \[8\]"),
        ("layer.bias", "F64", (8,), "of F64, expected dense F32, BF16 or F16"),
        ("layer.bias", "I32", (8,), "of I32, expected dense F32, BF16 or F16"),
    ],
)
def test_a_tensor_that_does_not_fit_the_base_is_named(name, dtype, shape, says) -> None:
    encodings = canonical_json({name: "dense"}).decode()
    with pytest.raises(SchemaMismatchError, match=f"tensor '{name}': .*{says}"):
        check([(name, TensorSpec(dtype=dtype, shape=shape))], encodings=encodings)
