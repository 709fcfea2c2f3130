from __future__ import annotations

import pytest

from coldfuse.core.schema import TensorSpec
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.header import format_header, parse_header
from coldfuse.tensors.statistics import StatisticsInfo, check_statistics, read_statistics_info, statistics_header

MODEL = "ab" * 32
BASE = {
    "linear.weight": TensorSpec(dtype="BF16", shape=(3, 5)),
    "linear.bias": TensorSpec(dtype="BF16", shape=(3,)),
    "position_ids": TensorSpec(dtype="I64", shape=(4,)),
}
FISHER = StatisticsInfo(kind="fisher", estimator="exact", model=MODEL, num_examples=256, over="examples", count=256)
GRAM = StatisticsInfo(
    kind="gram", estimator="inputs", model=MODEL, num_examples=2, over="tokens", count=99, padding="excluded"
)


def parse(data):
    return parse_header(data[8:], what="header")


def check(tensors, info=FISHER, *, kind="fisher", dtype="F32", **metadata):
    written = dict(parse(statistics_header({}, info)).metadata) | metadata
    given = {key: value for key, value in written.items() if value is not None}
    specs = [(name, TensorSpec(dtype=dtype, shape=shape)) for name, shape in tensors.items()]
    return check_statistics(parse(format_header(specs, given)), BASE, kind=kind, what="s")


@pytest.mark.parametrize("info", [FISHER, GRAM], ids=["fisher", "gram"])
def test_what_a_file_says_of_itself_is_read_back(info):
    assert read_statistics_info(parse(statistics_header({"linear.weight": (5, 5)}, info)), what="s") == info


def test_the_file_is_laid_out_by_name_in_f32():
    header = parse(statistics_header({"b": (2,), "a": (3, 1)}, FISHER))
    assert [(entry.name, entry.spec.dtype, entry.spec.shape) for entry in header.tensors] == [
        ("a", "F32", (3, 1)), ("b", "F32", (2,)),
    ]  # fmt: skip
    assert header.metadata == {
        "format": "coldfuse-statistics", "version": "1", "kind": "fisher", "estimator": "exact", "model": MODEL,
        "num_examples": "256", "reduction": "mean", "over": "examples", "count": "256",
    }  # fmt: skip


def test_statistics_that_fit_the_base_pass():
    assert check({"linear.weight": (3, 5), "linear.bias": (3,)}) == FISHER
    assert check({"linear.weight": (5, 5)}, GRAM, kind="gram") == GRAM
    assert check({}) == FISHER


@pytest.mark.parametrize(
    ("tensors", "kind", "message"),
    [
        ({"linear.weight": (5, 3)}, "fisher", r"'linear.weight': shape \[5, 3\], expected \[3, 5\]"),
        ({"linear.weight": (3, 5)}, "gram", r"'linear.weight': shape \[3, 5\], expected \[5, 5\]"),
        ({"linear.bias": (3, 3)}, "gram", "only a linear layer's weight has a Gram matrix"),
        ({"other": (3,)}, "fisher", "the base has no such tensor"),
        ({"position_ids": (4,)}, "fisher", "dtype I64 is never fused"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors, kind, message):
    with pytest.raises(SchemaMismatchError, match=message):
        check(tensors, FISHER if kind == "fisher" else GRAM, kind=kind)


def test_another_dtype_kind_or_model_is_refused():
    with pytest.raises(SchemaMismatchError, match="dtype BF16, expected F32"):
        check({"linear.bias": (3,)}, dtype="BF16")
    with pytest.raises(SchemaMismatchError, match="holds statistics of kind fisher, the fusion method asks for gram"):
        check({}, kind="gram")
    with pytest.raises(SchemaMismatchError, match=f"computed for model {MODEL}, expected {'00' * 32}"):
        check_statistics(parse(statistics_header({}, FISHER)), BASE, kind="fisher", what="s", model="00" * 32)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "coldfuse-delta"}, "not a file of coldfuse statistics .*coldfuse-delta"),
        ({"format": None}, "not a file of coldfuse statistics"),
        ({"version": "3"}, "statistics of version '3', this coldfuse knows 1 and 2"),
        ({"estimator": "hessian"}, "metadata estimator is 'hessian'"),
        ({"reduction": "sum"}, "metadata reduction is 'sum'"),
        ({"num_examples": "-1"}, "metadata num_examples is '-1'"),
        ({"count": None}, "metadata count is None"),
        ({"model": "main"}, "metadata model is 'main'"),
    ],
)
def test_a_file_that_says_something_else_is_refused(metadata, message):
    with pytest.raises(CodecError, match=message):
        check({}, **metadata)
