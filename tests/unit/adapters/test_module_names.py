"""A module's tensors in a contributor's model: by the federation's names, or behind one prefix."""

import pytest

from coldfuse.adapters.module_names import match_module
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import SchemaMismatchError

SHAPES = {
    "base_model.model.encoder.layer.0.query.lora_A.weight": (4, 16),
    "base_model.model.encoder.layer.0.query.lora_B.weight": (16, 4),
    "base_model.model.encoder.layer.1.query.lora_A.weight": (4, 16),
    "base_model.model.encoder.layer.1.query.lora_B.weight": (16, 4),
}
MODULE = {name: TensorSpec(dtype="F32", shape=shape) for name, shape in SHAPES.items()}


def renamed(old, new):
    return {name.replace(old, new): shape for name, shape in SHAPES.items()}


@pytest.mark.parametrize("own", [SHAPES, renamed("encoder", "bert.encoder"), renamed("base_model.model.", "body.")])
def test_one_prefix_explains_all_names(own):
    found = match_module(own | {"classifier.weight": (2, 16)}, MODULE, what="alice")
    assert sorted(found) == sorted(MODULE)
    assert sorted(found.values()) == sorted(own)


def test_another_rank_is_said_in_one_line():
    own = {name: tuple(8 if size == 4 else size for size in shape) for name, shape in SHAPES.items()}
    with pytest.raises(SchemaMismatchError, match=r"alice: .*its rank is 8, the federation's module has rank 4; train"):
        match_module(own, MODULE, what="alice")


def test_what_is_missing_is_named():
    own = dict(list(SHAPES.items())[:2])
    with pytest.raises(
        SchemaMismatchError, match=r"lacks base_model.model.encoder.layer.1.query.lora_A.weight.* and 1"
    ):
        match_module(own, MODULE, what="alice")


def test_other_inputs_are_said_by_their_shapes():
    own = SHAPES | {"base_model.model.encoder.layer.0.query.lora_A.weight": (4, 32)}
    with pytest.raises(SchemaMismatchError, match=r"its shape is \[4, 32\], the federation's module has \[4, 16\]"):
        match_module(own, MODULE, what="alice")
