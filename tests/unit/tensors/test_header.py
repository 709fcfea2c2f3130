from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from tiny_rounds import make_model

from coldfuse.core.schema import TensorSpec
from coldfuse.errors import CodecError
from coldfuse.tensors.header import MAX_HEADER_BYTES, format_header, parse_header, read_header


def reader(data: bytes):
    def read(buffer: memoryview, start: int) -> None:
        assert start + len(buffer) <= len(data), "read beyond the file"
        buffer[:] = data[start : start + len(buffer)]

    return read


def parse(data: bytes):
    return read_header(reader(data), file_bytes=len(data), what="f")


def test_files_of_the_library_are_read() -> None:
    tensors = {"b": np.zeros((2, 3), np.float32), "a": np.arange(4), "scalar": np.array(1, np.float16)}
    data = safetensors.numpy.save(tensors, {"format": "pt"})
    header = parse(data)
    assert {name: spec.shape for name, spec in header.schema.items()} == {n: t.shape for n, t in tensors.items()}
    assert header.metadata == {"format": "pt"}
    for entry in header.tensors:
        assert data[entry.start : entry.start + entry.spec.size_bytes] == tensors[entry.name].tobytes()


def test_the_library_reads_what_is_written() -> None:
    model = make_model()
    head = format_header([(name, tensor.spec) for name, tensor in model.items()], {"format": "pt", "θ": "δ"})
    data = head + b"".join(tensor.data for tensor in model.values())
    found = dict(safetensors.deserialize(data))
    assert {name: (e["dtype"], tuple(e["shape"]), bytes(e["data"])) for name, e in found.items()} == {
        name: (tensor.spec.dtype, tensor.spec.shape, tensor.data) for name, tensor in model.items()
    }
    assert len(head) % 8 == 0
    assert parse(data).schema == {name: tensor.spec for name, tensor in model.items()}


def test_a_file_without_tensors_is_its_header() -> None:
    data = format_header([], {"format": "coldfuse-delta"})
    assert parse(data).tensors == ()
    assert parse(data).file_bytes == len(data)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
MALFORMED = {
    "no JSON": b"{",
    "no object": b"[]",
    "leading space": b' {"a":' + json.dumps(ONE).encode() + b"}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a":' + json.dumps(ONE).encode() + b"}",
    "no UTF-8": b'{"\xff":1}',
    "half a surrogate pair": b'{"\\ud800":' + json.dumps(ONE).encode() + b"}",
    "deep nesting": b'{"a":' * 100_000,
    "deep metadata": b'{"__metadata__":' * 100_000,
    "a name of 3,000 letters": json.dumps({"a" * 3000: ONE}).encode(),
    "a name twice": b'{"a":%b,"a":%b}' % ((json.dumps(ONE).encode(),) * 2),
    "no dict": b'{"a":3}',
    "a list": b'{"a":[1,"b"]}',
    "metadata no dict": b'{"__metadata__":[]}',
    "metadata no string": b'{"__metadata__":{"a":1}}',
    "metadata with half a pair": b'{"__metadata__":{"a":"\\udfff"}}',
    "dtype no string": json.dumps({"a": ONE | {"dtype": ["F32"]}}).encode(),
    "dtype null": json.dumps({"a": ONE | {"dtype": None}}).encode(),
    "negative size": json.dumps({"a": ONE | {"shape": [-2]}}).encode(),
    "size as text": json.dumps({"a": ONE | {"shape": ["2"]}}).encode(),
    "size as truth": json.dumps({"a": ONE | {"shape": [True, 2]}}).encode(),
    "fractional size": json.dumps({"a": ONE | {"shape": [2.0]}}).encode(),
    "infinite size": b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}',
    "enormous size": json.dumps({"a": ONE | {"shape": [2**63]}}).encode(),
    "hostile dimensions": json.dumps({"a": ONE | {"shape": [10**4000] * 200}}).encode(),
    "too many dimensions": json.dumps({"a": ONE | {"shape": [1] * 65 + [2]}}).encode(),
    "half a byte": json.dumps({"a": ONE | {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}).encode(),
    "numbers beyond JSON": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":NaN}}',
    "an empty tensor that overflows": b'{"a":{"dtype":"F32","shape":[%d,%d,0],"data_offsets":[0,0]}}' % (2**62, 2**62),
    "missing field": json.dumps({"a": {"dtype": "F32", "shape": [2]}}).encode(),
    "offsets backwards": json.dumps({"a": ONE | {"data_offsets": [8, 0]}}).encode(),
    "offsets too short": json.dumps({"a": ONE | {"data_offsets": [0, 4]}}).encode(),
    "offsets as truth": b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[false,true]}}',
    "three offsets": json.dumps({"a": ONE | {"data_offsets": [0, 8, 16]}}).encode(),
    "gap at the start": json.dumps({"a": ONE | {"data_offsets": [8, 16]}}).encode(),
    "gap between": json.dumps({"a": ONE, "b": ONE | {"data_offsets": [16, 24]}}).encode(),
    "overlap": json.dumps({"a": ONE, "b": ONE | {"data_offsets": [4, 12]}}).encode(),
    "alias": json.dumps({"a": ONE, "b": ONE}).encode(),
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_headers_are_refused_in_one_line(text: bytes) -> None:
    with pytest.raises(CodecError, match=r"^f: ") as caught:
        parse_header(text, what="f")
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400


def test_a_dtype_of_the_future_is_named_with_what_to_do() -> None:
    text = json.dumps({"a": ONE | {"dtype": "F3_E1M1"}}).encode()
    with pytest.raises(CodecError, match=r"f: tensor 'a' has the dtype 'F3_E1M1', .*; take a newer coldfuse, or conv"):
        parse_header(text, what="f")
    with pytest.raises(CodecError) as caught:
        parse_header(json.dumps({"a" * 999: ONE | {"dtype": "F\x1b" * 999}}).encode(), what="f")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("text", [b'{"__metadata__":null}', b'{"__metadata__":{}}', b"{}", b"{}   ", b"{}\n\t"])
def test_a_header_that_says_nothing_of_the_file_is_read(text: bytes) -> None:
    safetensors.deserialize(len(text).to_bytes(8, "little") + text)
    assert parse_header(text, what="f").metadata == {}


def test_what_else_is_said_of_a_tensor_is_passed_over_as_the_library_does() -> None:
    text = json.dumps({"a": ONE | {"more": [1]}}).encode()
    assert [name for name, _ in safetensors.deserialize(len(text).to_bytes(8, "little") + text + bytes(8))] == ["a"]
    assert list(parse_header(text, what="f").schema) == ["a"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mred", "x" * 10_000])
def test_hostile_names_do_not_reach_the_message_as_they_are(name: str) -> None:
    with pytest.raises(CodecError) as caught:
        parse_header(json.dumps({name: {}}).encode(), what="f")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("size", [0, 7])
def test_too_short_files_are_refused(size: int) -> None:
    with pytest.raises(CodecError, match=f"{size} bytes are too few"):
        parse(b"\0" * size)


@pytest.mark.parametrize("length", [1, MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused_before_it_is_read(length: int) -> None:
    with pytest.raises(CodecError, match="its header claims"):
        parse(length.to_bytes(8, "little"))


@pytest.mark.parametrize("change", [b"x", None])
def test_a_file_of_another_size_than_described_is_refused(change: bytes | None) -> None:
    data = safetensors.numpy.save({"a": np.zeros(4)})
    with pytest.raises(CodecError, match="the header describes"):
        parse(data + change if change else data[:-1])


def test_a_scalar_is_one_element_and_an_empty_tensor_none() -> None:
    assert TensorSpec(dtype="F32", shape=()).num_elements == 1
    assert TensorSpec(dtype="F32", shape=(3, 0)).num_elements == 0
    assert not TensorSpec(dtype="F32", shape=(3, 0)).is_fused
