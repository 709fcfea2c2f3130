"""Texts to features: tokenise once, batch texts of like length, run the body, average over the tokens.

Shape letters: N examples, B of them in a batch, L tokens of the longest text in the batch, H hidden features.
"""
# ruff: noqa: N806 - the names of tensors end in their shape

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.data.dataset import TextDataset


@dataclass(frozen=True, kw_only=True)
class TokenizedTexts:
    """Token numbers of each text, not yet padded: a batch is padded to its own longest text."""

    input_ids: Sequence[Sequence[int]]
    """The tokens of each text."""
    token_type_ids: Sequence[Sequence[int]] | None
    """Which of a pair's two texts each token belongs to, where the model wants to know."""
    pad_token_id: int
    """The token that fills a batch on the right; it is masked."""

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> list[int]:
        """The number of tokens of each text."""
        return [len(ids) for ids in self.input_ids]

    def take(self, indices: Sequence[int]) -> "TokenizedTexts":
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
def encode_all(body: nn.Module, texts: TokenizedTexts, *, batch_size: int) -> Tensor:
    """Return the features of all texts in their order, shape (N, H), on the body's device and without dropout."""
    device = next(body.parameters()).device
    by_length = sorted(range(len(texts)), key=texts.lengths.__getitem__, reverse=True)  # what needs most memory first
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    was_training = body.training
    body.eval()
    with native_autocast(device):
        features_NH = torch.cat([encode(body, texts.batch(indices, device)) for indices in batches])
    body.train(was_training)
    return torch.empty_like(features_NH).index_copy_(0, torch.tensor(by_length, device=device), features_NH)


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` takes a CUDA GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def native_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bf16 where the hardware multiplies bf16 itself (twice the speed); elsewhere stay in float32."""
    if computes_bf16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def computes_bf16(device: torch.device) -> bool:
    """Tell whether the device has instructions for bf16 products; emulating them would be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch cannot tell
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _padded(row: Sequence[int], length: int, filler: int) -> list[int]:
    return [*row, *[filler] * (length - len(row))]
