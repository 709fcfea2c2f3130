import pytest
import torch
from torch import nn

from coldfuse.errors import SchemaMismatchError
from coldfuse.training.model import shared_tensors, stored_parameters


class Body(nn.Module):
    base_model_prefix = "bert"

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(4, 3)
        self.LayerNorm = nn.LayerNorm(3)
        self.tied = nn.Linear(3, 4, bias=False)
        self.tied.weight = self.embeddings.weight
        self.register_buffer("position_ids", torch.arange(4))


def test_names_are_those_of_the_files():
    body = Body()
    plain = shared_tensors(body, ["embeddings.weight", "LayerNorm.weight", "cls.bias"])
    prefixed = shared_tensors(body, ["bert.embeddings.weight", "bert.LayerNorm.gamma", "bert.LayerNorm.beta"])
    assert plain.keys() == {"embeddings.weight", "LayerNorm.weight"}
    assert prefixed.keys() == {"bert.embeddings.weight", "bert.LayerNorm.gamma", "bert.LayerNorm.beta"}
    assert prefixed["bert.embeddings.weight"].data_ptr() == body.embeddings.weight.data_ptr()
    assert stored_parameters(body, prefixed) == {
        "embeddings.weight": "bert.embeddings.weight", "LayerNorm.weight": "bert.LayerNorm.gamma",
        "LayerNorm.bias": "bert.LayerNorm.beta",
    }  # fmt: skip


def test_tied_tensors_are_one_under_the_stored_name():
    assert shared_tensors(Body(), ["tied.weight"]).keys() == {"tied.weight"}
    assert len(shared_tensors(Body(), ["tied.weight", "embeddings.weight"])) == 1
    assert stored_parameters(Body(), ["tied.weight"]) == {"embeddings.weight": "tied.weight"}


def test_integer_buffers_stay():
    names = ["position_ids", "LayerNorm.bias"]
    assert shared_tensors(Body(), names).keys() == stored_parameters(Body(), names).keys() == {"LayerNorm.bias"}


def test_a_base_of_another_architecture_is_refused():
    with pytest.raises(SchemaMismatchError, match=r"no.* has a name of the base, such as layers\.0"):
        shared_tensors(Body(), ["layers.0"])
