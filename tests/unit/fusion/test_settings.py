from __future__ import annotations

import pytest

from coldfuse.fusion.settings import Layer, Rule, Setting, Table, always, layers_of


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ((0.3,), 3, [0.3, 0.3, 0.3]),
        ((0, 1), 3, [0, 0.5, 1]),
        ((0, 0.5, 1), 5, [0, 0.25, 0.5, 0.75, 1]),
        ((1, 0), 1, [0]),
        ((0, 4, 0), 2, [0, 0]),
    ],
)
def test_a_gradient_goes_from_the_first_layer_to_the_last(values, count, expected):
    found = [Rule(values).at("h", Layer(index, count)) for index in range(count)]
    assert found == pytest.approx(expected)


def test_what_is_in_no_layer_has_a_gradients_first_number():
    assert Rule((0.25, 0.75)).at("model.norm.weight", None) == 0.25


def test_the_first_rule_that_fits_decides():
    setting = Setting((Rule((1.0,), "mlp.up"), Rule((2.0,), "mlp"), Table({"a": 3.0}), Rule((4.0,))))
    assert [setting.at(name, None) for name in ("h.mlp.up", "h.mlp.down", "a", "b")] == [1, 2, 3, 4]
    assert Setting((Rule((1.0,), "mlp"),)).at("b", None) is None


def test_a_table_names_tensors_whole_and_all_others():
    table = Setting((Table({"h.w": 1.0, "*": 2.0}),))
    assert [table.at(name, None) for name in ("h.w", "h.w2")] == [1.0, 2.0]


def test_what_matches_nothing_is_found():
    setting = Setting((Rule((1.0,), "atn"), Rule((1.0,)), Table({"h.v": 1.0, "*": 0.0})))
    assert setting.unmatched(["h.attn", "h.w"]) == ["atn", "h.v"]
    assert always(1.0).unmatched(["h"]) == []


def test_each_stack_counts_its_own_layers():
    found = layers_of(["encoder.block.0.w", "encoder.block.2.w", "decoder.block.0.w", "3.w", "shared", "v1.w"])
    assert found == {
        "encoder.block.0.w": Layer(0, 3),
        "encoder.block.2.w": Layer(2, 3),
        "decoder.block.0.w": Layer(0, 1),
        "3.w": Layer(3, 4),
        "shared": None,
        "v1.w": None,
    }
