"""Texts to features: tokenise once, batch texts of like length, run the body, average over the tokens.

Shape letters: N examples, B of them in a batch, L tokens of the longest text in the batch, H hidden features.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.training.compute import native_autocast
from coldfuse.training.failures import ModelFailedError, failures_of


@dataclass(frozen=True, kw_only=True)
class Intake:
    """In which form a body takes texts."""

    max_length: int
    """Tokens of a text that are read."""
    pad_to: int | None = None
    """Tokens to which every text is padded, for a body that reads the padding too; None: a batch has its own length."""
    num_types: int | None = None
    """How many texts of a pair the body tells apart by their tokens' types; None for any number."""
    num_tokens: int | None = None
    """Rows of the body's embedding of tokens; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class TokenizedTexts:
    """Token numbers of each text, not yet padded: a batch is padded to its own longest text."""

    input_ids: Sequence[Sequence[int]]
    """Tokens of each text, by number."""
    token_type_ids: Sequence[Sequence[int]] | None
    """Number of the text, 0 or 1, that each token of a pair belongs to; None where the model does not ask."""
    pad_token_id: int
    """Token that fills a batch on the right; it is masked."""
    pad_to: int | None = None
    """Tokens to which every batch is padded; None: to its own longest text."""

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> list[int]:
        """Number of tokens of each text, as the body gets it."""
        return [self.pad_to or len(ids) for ids in self.input_ids]

    def take(self, indices: Sequence[int]) -> TokenizedTexts:
        """Return the texts at `indices`, in that order."""
        types = self.token_type_ids
        return TokenizedTexts(
            input_ids=[self.input_ids[i] for i in indices],
            token_type_ids=None if types is None else [types[i] for i in indices],
            pad_token_id=self.pad_token_id,
            pad_to=self.pad_to,
        )

    def batch(self, indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Return the body's arguments for the texts at `indices`."""
        longest = max(self.lengths[i] for i in indices)
        columns = {
            "input_ids": [_padded(self.input_ids[i], longest, self.pad_token_id) for i in indices],
            "attention_mask": [_padded([1] * len(self.input_ids[i]), longest, 0) for i in indices],
        }
        if self.token_type_ids is not None:
            columns["token_type_ids"] = [_padded(self.token_type_ids[i], longest, 0) for i in indices]
        return {name: torch.tensor(rows, device=device) for name, rows in columns.items()}


class Texts(Protocol):
    """What can be tokenised."""

    @property
    def texts(self) -> Sequence[str]:
        """Texts, or the first of each pair."""

    @property
    def text_pairs(self) -> Sequence[str] | None:
        """Second texts, where there are pairs."""


def tokenize(tokenizer: Any, dataset: Texts, intake: Intake) -> TokenizedTexts:
    """Turn the data set's texts (or pairs) into tokens, cut on the right, as a body takes them.

    Raises `UserInputError` for a token that has no row in the body's embedding.
    """
    pairs = None if dataset.text_pairs is None else list(dataset.text_pairs)
    encoded = tokenizer(
        list(dataset.texts), pairs, truncation=True, max_length=intake.max_length, padding=False,
        return_attention_mask=False,
    )  # fmt: skip
    types = encoded.get("token_type_ids")
    if types and intake.num_types is not None and max(map(max, filter(None, types)), default=0) >= intake.num_types:
        types = None  # the body knows fewer: it tells the texts of a pair apart by the separators alone
    pad, input_ids = tokenizer.pad_token_id, encoded["input_ids"]
    if intake.num_tokens is not None and pad >= intake.num_tokens:  # added, and the model never told of it
        pad = 0  # it is masked, so any token will do
    if not all(input_ids):  # what is no token at all is read as one of padding: a mean needs one
        input_ids = [ids or [pad] for ids in input_ids]
        types = types and [row or [0] for row in types]
    _require_rows(tokenizer, input_ids, intake.num_tokens)
    return TokenizedTexts(input_ids=input_ids, token_type_ids=types, pad_token_id=pad, pad_to=intake.pad_to)


def _require_rows(tokenizer: Any, input_ids: Sequence[Sequence[int]], num_tokens: int | None) -> None:
    if num_tokens is None or (highest := max(map(max, input_ids), default=0)) < num_tokens:
        return
    num_texts = sum(max(ids) >= num_tokens for ids in input_ids)
    raise UserInputError(
        f"{num_texts} of {len(input_ids)} texts have tokens that the model does not know, such as number {highest} "
        f"({tokenizer.convert_ids_to_tokens(highest)!r}): its embedding has {num_tokens} rows and the tokenizer "
        f"{len(tokenizer)} tokens; the tokenizer is not the model's, or model.resize_token_embeddings was not called"
    )


def run(body: nn.Module, batch: Mapping[str, Tensor]) -> Any:  # the output's class is the model's own
    """Run the body on a batch, with as much of it as its forward takes.

    Raises `ModelFailedError` for whatever its code raises.
    """
    takes = inspect.signature(body.forward).parameters
    given = {name: values for name, values in batch.items() if name in takes} if "input_ids" in takes else batch
    shape = "×".join(map(str, batch["input_ids"].shape))
    with failures_of(body, f"on a batch of {shape} tokens"):
        return body(**given)


def encode(body: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the features of a batch in float32, shape (B, H)."""
    hidden_BLH = _hidden_states(body, run(body, batch), num_texts=len(batch["input_ids"])).float()
    mask_BL = batch["attention_mask"]
    if hidden_BLH.shape[1] != mask_BL.shape[1]:  # a body that pools as it goes: no token is left to be masked
        return hidden_BLH.mean(dim=1)
    mask_BL1 = mask_BL.unsqueeze(-1).float()
    return (hidden_BLH * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1).clamp(min=1.0)


def _hidden_states(body: nn.Module, output: Any, *, num_texts: int) -> Tensor:
    hidden = output[0] if isinstance(output, tuple) and output else getattr(output, "last_hidden_state", None)
    if not isinstance(hidden, Tensor) or hidden.dim() != 3 or len(hidden) != num_texts:
        raise ModelFailedError(
            f"{type(body).__name__} gives no hidden state of each token (last_hidden_state), so there are no features "
            "to put a head on; take another base"
        )
    return hidden


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
