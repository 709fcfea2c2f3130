"""Texts to features: tokenise once, batch texts of like length, run the body, average over the tokens.

Shape letters: N examples, B of them in a batch, L tokens of the longest text in the batch, H hidden features.
"""
# ruff: noqa: N806 - the names of tensors end in their shape

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.data.dataset import TextDataset
from coldfuse.training.compute import native_autocast


@dataclass(frozen=True, kw_only=True)
class TokenizedTexts:
    """Token numbers of each text, not yet padded: a batch is padded to its own longest text."""

    input_ids: Sequence[Sequence[int]]
    """Tokens of each text, by number."""
    token_type_ids: Sequence[Sequence[int]] | None
    """Number of the text, 0 or 1, that each token of a pair belongs to; None where the model does not ask."""
    pad_token_id: int
    """Token that fills a batch on the right; it is masked."""

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> list[int]:
        """Number of tokens of each text."""
        return [len(ids) for ids in self.input_ids]

    def take(self, indices: Sequence[int]) -> TokenizedTexts:
        """Return the texts at `indices`, in that order."""
        types = self.token_type_ids
        return TokenizedTexts(
            input_ids=[self.input_ids[i] for i in indices],
            token_type_ids=None if types is None else [types[i] for i in indices],
            pad_token_id=self.pad_token_id,
        )

    def batch(self, indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Return the body's arguments for the texts at `indices`."""
        longest = max(len(self.input_ids[i]) for i in indices)
        columns = {
            "input_ids": [_padded(self.input_ids[i], longest, self.pad_token_id) for i in indices],
            "attention_mask": [_padded([1] * len(self.input_ids[i]), longest, 0) for i in indices],
        }
        if self.token_type_ids is not None:
            columns["token_type_ids"] = [_padded(self.token_type_ids[i], longest, 0) for i in indices]
        return {name: torch.tensor(rows, device=device) for name, rows in columns.items()}


def tokenize(tokenizer: Any, dataset: TextDataset, *, max_length: int) -> TokenizedTexts:
    """Turn the data set's texts (or pairs) into tokens, cut on the right at `max_length`."""
    pairs = None if dataset.text_pairs is None else list(dataset.text_pairs)
    encoded = tokenizer(
        list(dataset.texts), pairs, truncation=True, max_length=max_length, padding=False, return_attention_mask=False
    )
    types = encoded.get("token_type_ids")
    return TokenizedTexts(input_ids=encoded["input_ids"], token_type_ids=types, pad_token_id=tokenizer.pad_token_id)


def encode(body: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the features of a batch in float32, shape (B, H)."""
    hidden_BLH: Tensor = body(**batch).last_hidden_state.float()
    mask_BL1 = batch["attention_mask"].unsqueeze(-1).float()
    return (hidden_BLH * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1).clamp(min=1.0)


@torch.no_grad()
def encode_all(body: nn.Module, texts: TokenizedTexts, *, batch_size: int = 64) -> Tensor:
    """Return the features of all texts in their order, shape (N, H), on the body's device and without dropout.

    Args:
        body: A model whose output has `last_hidden_state`; it is left in the mode it was in.
        texts: What is encoded.
        batch_size: Texts that pass through the body at once.
    """
    device = next(body.parameters()).device
    by_length = sorted(range(len(texts)), key=texts.lengths.__getitem__, reverse=True)  # what needs most memory first
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    was_training = body.training
    body.eval()
    with native_autocast(device):
        features_NH = torch.cat([encode(body, texts.batch(indices, device)) for indices in batches])
    body.train(was_training)
    # Back from the order of lengths to that of the texts.
    return torch.empty_like(features_NH).index_copy_(0, torch.tensor(by_length, device=device), features_NH)


def _padded(row: Sequence[int], length: int, filler: int) -> list[int]:
    return [*row, *[filler] * (length - len(row))]
