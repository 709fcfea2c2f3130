from types import SimpleNamespace

import torch
from torch import nn

from coldfuse.training.compute import native_autocast
from coldfuse.training.encoding import TokenizedTexts, encode_all


class Body(nn.Module):
    """Hidden states are the token numbers themselves, so that the features can be worked out by hand."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.widths = []

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        self.widths.append(input_ids.shape[1])
        return SimpleNamespace(last_hidden_state=input_ids.unsqueeze(-1).float() * self.scale)


def texts(*rows):
    return TokenizedTexts(input_ids=rows, token_type_ids=None, pad_token_id=99)


def test_features_are_means_over_tokens_without_padding_in_the_order_of_the_texts():
    features = encode_all(Body(), texts([1, 3], [8], [2, 2, 5], [4]), batch_size=2)
    assert features.flatten().tolist() == [2.0, 8.0, 3.0, 4.0]


def test_a_batch_is_padded_to_its_own_longest_text():
    body = Body()
    encode_all(body, texts([1], [1] * 7, [1, 1], [1] * 8), batch_size=2)
    assert body.widths == [8, 2]


def test_encoding_leaves_the_training_mode_and_needs_no_gradient():
    body = Body().train()
    assert not encode_all(body, texts([1], [2]), batch_size=8).requires_grad
    assert body.training


def test_a_batch_masks_its_padding_and_takes_what_was_asked():
    rows = TokenizedTexts(input_ids=[[1], [2, 3]], token_type_ids=[[0], [0, 1]], pad_token_id=9)
    batch = rows.take([1, 0]).batch([0, 1], torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[2, 3], [1, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1], [0, 0]]


def test_without_bf16_products_everything_stays_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    with native_autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
