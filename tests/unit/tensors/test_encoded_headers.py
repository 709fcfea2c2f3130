"""Headers of deltas that lie about how their tensors are stored: refused before a byte behind them is read."""

from __future__ import annotations

import json

import pytest

from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import sha256
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.deltas import check_delta, mask_name, mask_of
from coldfuse.tensors.encodings import MAX_RANK, LowRank
from coldfuse.tensors.header import format_header, parse_header
from coldfuse.tensors.index_codes import IndexCode

BASE = sha256(b"base")
SCHEMA = {
    "w": TensorSpec(dtype="F32", shape=(12, 10)),
    "large": TensorSpec(dtype="BF16", shape=(4096, 4096)),
    "taken|up": TensorSpec(dtype="F32", shape=(4,)),
    "taken": TensorSpec(dtype="F32", shape=(12, 10)),
    "ids": TensorSpec(dtype="I64", shape=(12, 10)),
}
GOOD = {"w|up": (12, 2), "w|down": (2, 10)}
LOW = {"kind": "low-rank", "rank": 2, "scale": 0.5}
CODE = IndexCode(120, 9).size_bytes


def check(encodings, tensors, *, mask=None, **metadata: str):
    given = encodings if isinstance(encodings, str) else json.dumps(encodings)
    specs = [
        (name, shape if isinstance(shape, TensorSpec) else TensorSpec(dtype="F32", shape=shape))
        for name, shape in tensors.items()
    ]
    whole = {"format": "coldfuse-delta", "version": "2", "base": BASE, "encodings": given} | metadata
    header = parse_header(format_header(specs, whole)[8:], what="d")
    return check_delta(header, SCHEMA, base_digest=BASE, what="delta", mask=mask)


def mask_header(shape):
    return parse_header(format_header([("w|indices", TensorSpec(dtype="U8", shape=shape))], {})[8:], what="m")


def test_what_is_said_and_stored_alike_is_taken() -> None:
    assert check({"w": LOW}, GOOD) == {"w": LowRank(2, 0.5)}
    assert check({"w": LOW | {"scale": 2}}, GOOD) == {"w": LowRank(2, 2.0)}


@pytest.mark.parametrize(
    "encoding",
    [
        LOW | {"rank": 0}, LOW | {"rank": -2}, LOW | {"rank": True}, LOW | {"rank": 2.0}, LOW | {"rank": "2"},
        LOW | {"scale": "1"}, LOW | {"scale": None}, LOW | {"scale": True}, LOW | {"scale": float("nan")},
        LOW | {"scale": float("inf")}, LOW | {"scale": 10**400}, LOW | {"more": 1}, {"kind": "low-rank"},
        {"kind": "sparse"}, {"kind": "sparse", "count": 0}, {"kind": "sparse", "count": -1}, {"kind": "masked"},
        {"kind": "sparse", "count": True}, {"kind": "sparse", "count": 9, "more": 1}, {"kind": "int8"},
        {"kind": "dense"}, "low-rank", [], None, 1, {},
    ],
    ids=str,
)  # fmt: skip
def test_an_encoding_that_is_none_is_refused(encoding) -> None:
    with pytest.raises(SchemaMismatchError, match="tensor 'w': encoding"):
        check({"w": encoding}, GOOD)


@pytest.mark.parametrize(
    ("encodings", "tensors", "says"),
    [
        ({"w": LOW | {"rank": 3}}, GOOD, r"'w|down': F32 of shape \[2, 10\], .* has to be F32 of shape \[3, 10\]"),
        ({"w": LOW}, GOOD | {"w|up": (10, 2)}, r"'w|up': F32 of shape \[10, 2\]"),
        ({"w": LOW}, {"w|up": (12, 2)}, r"'w|down': not there"),
        ({"w": LOW}, GOOD | {"w": (12, 10)}, r"'w': F32 of shape .*, by its encodings it has to be not there"),
        ({}, GOOD, "by its encodings it has to be not there"),
        ({"w": LOW}, GOOD | {"w|up": TensorSpec(dtype="F64", shape=(12, 2))}, "F64 of shape"),
        ({"w": LOW}, GOOD | {"w|up": TensorSpec(dtype="BF16", shape=(12, 2))}, "has to be"),
        ({"w": LOW}, GOOD | {"w|up": TensorSpec(dtype="U8", shape=(12, 2))}, "U8 of shape"),
        ({"w": LOW | {"rank": 6}}, {"w|up": (12, 6), "w|down": (6, 10)}, "factors of rank 6 are no smaller"),
        ({"w": LOW | {"rank": 10**18}}, GOOD, "factors of rank 1000000000000000000, at most 512"),
        (
            {"large": LOW | {"rank": MAX_RANK + 1}},
            {"large|up": (4096, 513), "large|down": (513, 4096)},
            "rank 513, at most 512 is taken",
        ),
        ({"taken": LOW}, {"taken|up": (12, 2), "taken|down": (2, 10)}, "'taken|up' would be two things"),
        ({"w|up": "dense", "w": LOW}, GOOD, "'w|up': the base has no such tensor"),
        ({"other": LOW}, {"other|up": (12, 2), "other|down": (2, 10)}, "the base has no such tensor"),
        ({"ids": LOW}, {"ids|up": (12, 2), "ids|down": (2, 10)}, "dtype I64 is never fused"),
        ({"w": {"kind": "sparse", "count": 120}}, {"w|values": (120,)}, "120 elements and their indices"),
        ({"w": {"kind": "sparse", "count": 9}}, {"w|values": (9,)}, r"'w|indices': not there"),
        (
            {"w": {"kind": "sparse", "count": 9}},
            {"w|values": (9,), "w|indices": TensorSpec(dtype="U8", shape=(CODE + 1,))},
            "has to be U8 of shape",
        ),
        ({"w": {"kind": "masked", "count": 9}}, {"w|values": (9,)}, "those of a mask, which is not here"),
        ({"w": "dense"}, {"w": (10, 12)}, r"F32 of shape \[10, 12\], by its encodings it has to be"),
    ],
    ids=range(20),
)  # fmt: skip
def test_what_is_stored_otherwise_than_it_is_said_is_refused(encodings, tensors, says) -> None:
    with pytest.raises(SchemaMismatchError, match=says):
        check(encodings, tensors)


@pytest.mark.parametrize("shape", [(CODE - 1,), (CODE + 1,), (1, CODE)])
def test_a_mask_that_is_of_another_model_is_refused(shape) -> None:
    with pytest.raises(SchemaMismatchError, match=r"its mask has U8 of shape .*; send a mask of this base"):
        check({"w": {"kind": "masked", "count": 9}}, {"w|values": (9,)}, mask=mask_header(shape))


def test_a_mask_without_the_tensor_is_refused() -> None:
    with pytest.raises(SchemaMismatchError, match="its mask has not there for it"):
        check({"w": {"kind": "masked", "count": 9}}, {"w|values": (9,)}, mask=parse_header(b"{}", what="m"))


@pytest.mark.parametrize("text", ['{"w": "dense", "w": "dense"}', "[" * 9999, "{", "null", '"dense"'])
def test_encodings_that_are_no_object_are_refused(text) -> None:
    with pytest.raises(CodecError, match="delta metadata: encodings"):
        check(text, {"w": (12, 10)})


@pytest.mark.parametrize("digest", ["../../etc/passwd", "A" * 64, "", "0" * 63])
def test_a_mask_is_named_by_a_digest_alone(digest) -> None:
    whole = {"format": "coldfuse-delta", "version": "2", "mask": digest}
    with pytest.raises(CodecError, match="expected the digest of a mask"):
        mask_of(parse_header(format_header([], whole)[8:], what="d"))
    assert "/" not in mask_name("0" * 64)
