"""The arithmetic of adapters, against loops over single elements; the same bits whatever the cut into rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from coldfuse.adapters.adapter import AdapterTensor
from coldfuse.adapters.changes import (
    Added,
    Change,
    Factor,
    Hadamard,
    Kronecker,
    Product,
    Renormed,
    Replaced,
    Rescaled,
    Stored,
)
from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.header import TensorEntry
from coldfuse.tensors.products import multiply

ROWS, COLUMNS, RANK, SCALE = 12, 10, 3, 0.75
SHAPES = {
    "B": (ROWS, RANK), "A": (RANK, COLUMNS), "B2": (ROWS, RANK), "A2": (RANK, COLUMNS), "BT": (RANK, ROWS),
    "AT": (COLUMNS, RANK), "m": (1, ROWS, 1, 1), "row": (ROWS, 1), "column": (1, COLUMNS), "channel": (1, 5, 1, 1),
    "outer": (3, 2), "outer_a": (3, RANK), "outer_b": (RANK, 2), "inner": (4, 5), "whole": (ROWS, COLUMNS),
}  # fmt: skip
NUMBERS: Mapping[str, np.ndarray] = {
    name: np.random.default_rng(seed).normal(size=shape) for seed, (name, shape) in enumerate(SHAPES.items())
}
W = np.random.default_rng(99).normal(size=(ROWS, COLUMNS))


def stored(name: str) -> Stored:
    return Stored(Path(name), TensorEntry(name=name, spec=TensorSpec(dtype="F64", shape=SHAPES[name]), start=0))


def read(source: Stored, first: int, count: int) -> np.ndarray:
    values = NUMBERS[source.tensor.name].reshape(-1)
    assert 0 <= first <= first + count <= values.size
    return values[first : first + count].copy()


def factor(name: str, *, transposed: bool = False) -> Factor:
    return Factor(stored(name), transposed)


def times(b: str, a: str, row: int, column: int) -> float:
    return sum(NUMBERS[b][row, k] * NUMBERS[a][k, column] for k in range(RANK))


def lora(row: int, column: int) -> float:
    return SCALE * times("B", "A", row, column)


def dora(row: int, column: int) -> float:
    moved = [W[row, i] + lora(row, i) for i in range(COLUMNS)]
    norm = math.sqrt(sum(value * value for value in moved))
    return NUMBERS["m"][0, row, 0, 0] / norm * moved[column] - W[row, column]


BA = Product(factor("B"), factor("A"))
CASES: dict[str, tuple[Change, object]] = {
    "lora": (Added(BA, SCALE), lora),
    "transposed": (
        Added(Product(factor("BT", transposed=True), factor("AT", transposed=True)), SCALE),
        lambda o, i: SCALE * sum(NUMBERS["BT"][k, o] * NUMBERS["AT"][i, k] for k in range(RANK)),
    ),
    "dora": (Renormed(BA, SCALE, stored("m")), dora),
    "ia3 rows": (Rescaled(stored("row"), "rows"), lambda o, i: (NUMBERS["row"][o, 0] - 1) * W[o, i]),
    "ia3 columns": (Rescaled(stored("column"), "columns"), lambda o, i: (NUMBERS["column"][0, i] - 1) * W[o, i]),
    "ia3 channels": (
        Rescaled(stored("channel"), "columns"),
        lambda o, i: (NUMBERS["channel"][0, i // 2, 0, 0] - 1) * W[o, i],
    ),
    "loha": (
        Hadamard(BA, Product(factor("B2"), factor("A2")), SCALE),
        lambda o, i: SCALE * times("B", "A", o, i) * times("B2", "A2", o, i),
    ),
    "lokr": (
        Kronecker(factor("outer"), factor("inner"), SCALE),
        lambda o, i: SCALE * NUMBERS["outer"][o // 4, i // 5] * NUMBERS["inner"][o % 4, i % 5],
    ),
    "lokr of factors": (
        Kronecker(Product(factor("outer_a"), factor("outer_b")), factor("inner"), SCALE),
        lambda o, i: SCALE * times("outer_a", "outer_b", o // 4, i // 5) * NUMBERS["inner"][o % 4, i % 5],
    ),
    "whole": (Replaced(stored("whole")), lambda o, i: NUMBERS["whole"][o, i] - W[o, i]),
}


def tensor(*changes: Change) -> AdapterTensor:
    return AdapterTensor(name="w", shape=(ROWS, COLUMNS), changes=changes)


def rows_of(item: AdapterTensor, first: int, num: int) -> np.ndarray:
    base = W[first : first + num] if item.needs_base else np.empty((0, 0))
    return item.delta_rows(read, base, first, num)


@pytest.mark.parametrize("case", CASES)
def test_each_element_is_what_the_formula_says(case: str) -> None:
    change, formula = CASES[case]
    expected = [[formula(row, column) for column in range(COLUMNS)] for row in range(ROWS)]
    np.testing.assert_allclose(rows_of(tensor(change), 0, ROWS), expected, rtol=1e-12, atol=1e-14)


def test_no_bit_of_a_product_depends_on_its_tiles() -> None:
    left, right = NUMBERS["B"], NUMBERS["A"]
    products = {multiply(left, right, tile_elements=size).tobytes() for size in (1, 25, ROWS * COLUMNS)}
    assert products == {multiply(left, right).tobytes()}


@pytest.mark.parametrize("case", CASES)
def test_no_bit_depends_on_the_cut_into_rows(case: str) -> None:
    item = tensor(CASES[case][0])
    whole = rows_of(item, 0, ROWS).tobytes()
    for first in range(ROWS):
        for last in range(first, ROWS + 1):
            cut = rows_of(item, first, last - first)
            assert cut.tobytes() == whole[first * COLUMNS * 8 : last * COLUMNS * 8]


def test_changes_of_one_tensor_add_up() -> None:
    both = rows_of(tensor(CASES["whole"][0], CASES["lora"][0]), 0, ROWS)
    apart = rows_of(tensor(CASES["whole"][0]), 0, ROWS) + rows_of(tensor(CASES["lora"][0]), 0, ROWS)
    np.testing.assert_array_equal(both, apart)


def test_a_row_of_zeros_has_no_direction_and_stays_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NUMBERS, "B", np.zeros(SHAPES["B"]))  # type: ignore[arg-type]
    delta = tensor(CASES["dora"][0]).delta_rows(read, np.zeros((ROWS, COLUMNS)), 0, ROWS)
    assert not delta.any()


def test_numbers_that_are_not_finite_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NUMBERS, "A", np.full(SHAPES["A"], math.inf))  # type: ignore[arg-type]
    monkeypatch.setitem(NUMBERS, "B", np.zeros(SHAPES["B"]))  # type: ignore[arg-type]
    assert np.isnan(rows_of(tensor(CASES["lora"][0]), 0, ROWS)).all()


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 1)])
def test_tiny_tensors_are_matrices_too(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "whole", shape)
    monkeypatch.setitem(NUMBERS, "whole", np.full(shape, 3.0))  # type: ignore[arg-type]
    item = AdapterTensor(name="w", shape=shape, changes=(Replaced(stored("whole")),))
    rows, columns = item.rows_columns
    np.testing.assert_array_equal(
        item.delta_rows(read, np.ones((rows, columns)), 0, rows), np.full((rows, columns), 2.0)
    )


@pytest.mark.parametrize(("first", "num"), [(-1, 2), (0, ROWS + 1), (ROWS, 1)])
def test_rows_that_are_not_there_are_refused(first: int, num: int) -> None:
    with pytest.raises(ValueError, match=r"w: rows .* of 12"):
        tensor(CASES["lora"][0]).delta_rows(read, W, first, num)


def test_base_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        tensor(CASES["dora"][0]).delta_rows(read, W, 0, 1)
