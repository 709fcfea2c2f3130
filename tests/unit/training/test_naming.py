import pytest
import torch
from torch import nn

from coldfuse.errors import SchemaMismatchError
from coldfuse.training.naming import stored_parameters


class Body(nn.Module):
    base_model_prefix = "bert"

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(3, 2)
        self.LayerNorm = nn.LayerNorm(2)
        self.tied = self.embeddings
        self.register_buffer("position_ids", torch.arange(3))


def test_parameters_are_found_under_their_own_name_and_tied_ones_once():
    names = ["embeddings.weight", "tied.weight", "LayerNorm.weight", "LayerNorm.bias", "position_ids", "cls.weight"]
    found = stored_parameters(Body(), names)
    assert found == {name: name for name in ("embeddings.weight", "LayerNorm.weight", "LayerNorm.bias")}


def test_files_may_have_a_prefix_and_old_names():
    found = stored_parameters(Body(), ["bert.embeddings.weight", "bert.LayerNorm.gamma"])
    assert found == {"embeddings.weight": "bert.embeddings.weight", "LayerNorm.weight": "bert.LayerNorm.gamma"}


def test_files_of_another_model_are_refused():
    with pytest.raises(SchemaMismatchError, match=r"Body: none .* such as conv\.weight"):
        stored_parameters(Body(), ["conv.weight"])
