from types import SimpleNamespace

import pytest
from torch import nn

from coldfuse.training.loading import length_limit


class Body(nn.Module):
    def __init__(self, num_positions, padding_idx):
        super().__init__()
        self.config = SimpleNamespace(max_position_embeddings=num_positions)
        self.embeddings = nn.Module()
        self.embeddings.position_embeddings = nn.Embedding(8, 2, padding_idx=padding_idx)


@pytest.mark.parametrize(
    ("num_positions", "padding_idx", "tokenizer_limit", "expected"),
    [
        (512, None, 10**30, 512),
        (514, 1, 10**30, 512),
        (512, None, 256, 256),
        (-1, None, 256, 256),
        (-1, 1, 10**30, 1 << 20),
        (0, None, None, 1 << 20),
        (None, None, float("nan"), 1 << 20),
        ("512", None, 1e30, 1 << 20),
    ],
    ids=["bert", "roberta", "tokenizer", "xlnet", "no limit", "none at all", "no number", "text"],
)
def test_texts_are_cut_where_positions_or_tokenizer_end(num_positions, padding_idx, tokenizer_limit, expected):
    tokenizer = SimpleNamespace(model_max_length=tokenizer_limit)
    assert length_limit(Body(num_positions, padding_idx), tokenizer) == expected
