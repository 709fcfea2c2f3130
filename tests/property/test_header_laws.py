"""Whatever bytes arrive, the codec answers with a value or with a CodecError."""

from __future__ import annotations

import json
import math
import re

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import EVENT
from coldfuse.core.schema import DTYPES, TensorSpec, size_of
from coldfuse.core.serialization import decode, decode_any
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.header import format_header, parse_header, read_header
from coldfuse.tensors.parts import plan_parts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {"dtype": st.sampled_from([*sorted(DTYPES), "X"]) | JSON, "shape": st.lists(st.integers(-1, 5), max_size=3) | JSON,
     "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | JSON}
)  # fmt: skip
DOCUMENT = st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), ENTRY | JSON, max_size=4) | JSON
SPECS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(lambda name: name != "__metadata__"),
    st.builds(TensorSpec, dtype=st.sampled_from(["F32", "BF16", "I64", "BOOL"]), shape=st.lists(st.integers(0, 3))),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(DOCUMENT)
def test_any_document_is_a_header_or_a_codec_error(document: object) -> None:
    try:
        header = parse_header(json.dumps(document).encode(), what="f")
    except CodecError as error:
        assert str(error).startswith("f: ")  # noqa: PT017
        return
    parts = plan_parts(header)
    assert sum(part.size_bytes for part in parts) == header.file_bytes


SIZES = st.lists(st.integers(0, 5) | st.sampled_from([2**31, 2**62]), max_size=4)


@st.composite
def mostly_right_files(draw: st.DrawFn) -> tuple[bytes, int]:
    """Draw a file whose tensors mostly follow each other in mostly right sizes; and the largest size of its shapes."""
    document: dict[str, object] = draw(st.sampled_from([{}, {}, {"__metadata__": None}, {"__metadata__": {"a": "b"}}]))
    document, end, longest = dict(document), 0, 0
    for name in draw(st.lists(st.text(max_size=2), max_size=4, unique=True)):
        dtype, shape = draw(st.sampled_from(sorted(DTYPES))), draw(SIZES)
        size = size_of(dtype, math.prod(shape))
        begin = end + draw(st.sampled_from([0] * 12 + [-1, 1]))
        end = begin + size + draw(st.sampled_from([0] * 12 + [-1, 1]))
        document[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        longest = max(longest, math.prod(size for size in shape if size))
    header = json.dumps(document).encode() + b" " * draw(st.integers(0, 9))
    body = bytes(max(min(end, 200) + draw(st.sampled_from([0] * 12 + [-1, 1])), 0))
    return len(header).to_bytes(8, "little") + header + body, longest


@settings(max_examples=600, deadline=None)
@given(mostly_right_files())
def test_a_file_is_read_exactly_if_the_library_reads_it(made: tuple[bytes, int]) -> None:
    data, longest = made

    def read(buffer: memoryview, start: int) -> None:
        buffer[:] = data[start : start + len(buffer)]

    try:
        theirs = {name: (e["dtype"], tuple(e["shape"])) for name, e in safetensors.deserialize(data)}
    except safetensors.SafetensorError:
        theirs = None
    try:
        header = read_header(read, file_bytes=len(data), what="f")
        ours = {name: (spec.dtype, spec.shape) for name, spec in header.schema.items()}
    except CodecError:
        ours = None
    assert ours == theirs or (ours is None and longest >= 2**60)  # no empty tensor has sizes like that


def test_all_dtypes_of_the_library_are_known_in_its_sizes() -> None:
    for dtype in sorted(DTYPES):
        header = json.dumps({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, size_of(dtype, 8)]}}).encode()
        data = len(header).to_bytes(8, "little") + header + bytes(size_of(dtype, 8))
        assert [(e["dtype"], e["shape"]) for _, e in safetensors.deserialize(data)] == [(dtype, [8])]
    header = b'{"a":{"dtype":"no such one","shape":[],"data_offsets":[0,0]}}'
    with pytest.raises(safetensors.SafetensorError) as caught:
        safetensors.deserialize(len(header).to_bytes(8, "little") + header)
    assert set(re.findall(r"`(\w+)`", str(caught.value).partition("expected one of")[2])) == DTYPES


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_or_a_codec_error(data: bytes) -> None:
    def read(buffer: memoryview, start: int) -> None:
        buffer[:] = data[start : start + len(buffer)]

    try:
        assert read_header(read, file_bytes=len(data), what="f").file_bytes == len(data)
    except CodecError as error:
        assert str(error).startswith("f: ")  # noqa: PT017


@settings(max_examples=150, deadline=None)
@given(SPECS, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.just("v"), max_size=2))
def test_a_written_header_is_read_the_same_by_both(specs: dict[str, TensorSpec], metadata: dict[str, str]) -> None:
    data = format_header(specs.items(), metadata)
    header = parse_header(data[8:], what="f")
    body = bytes(header.file_bytes - header.size_bytes)
    theirs = {name: (e["dtype"], tuple(e["shape"])) for name, e in safetensors.deserialize(data + body)}
    assert header.schema == specs
    assert header.metadata == metadata
    assert theirs == {name: (spec.dtype, spec.shape) for name, spec in specs.items()}


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["format", "version", "base", "encodings"]), st.text(max_size=5)), JSON)
def test_any_metadata_is_a_delta_or_refused(metadata: dict[str, str], encodings: object) -> None:
    spec = TensorSpec(dtype="F32", shape=(1,))
    known = {"format": "coldfuse-delta", "version": "1", "base": "b", "encodings": json.dumps(encodings)}
    data = format_header([("a", spec)], known | {k: v.encode(errors="replace").decode() for k, v in metadata.items()})
    try:
        check_delta(parse_header(data[8:], what="f"), {"a": spec}, base_digest="b", what="f")
    except (CodecError, SchemaMismatchError):
        return
    assert encodings == {"a": "dense"} or "encodings" in metadata or encodings["a"] == "dense"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_value_or_a_codec_error(data: bytes) -> None:
    for parse in (lambda: decode(ContributionManifest, data, what="m"), lambda: decode_any(EVENT, data, what="m")):
        try:
            parse()
        except CodecError as error:
            assert str(error).isprintable()  # noqa: PT017
