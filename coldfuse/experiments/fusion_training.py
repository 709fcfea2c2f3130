"""Fine-tune body and head for a fixed number of epochs from a given head, as a node does.

A node's own trainer starts from a head that is fitted to its own data. Here parties that fuse their heads start from
one head, and no epoch is chosen by its score, so that all contributions have gone equally far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from coldfuse.data.dataset import TextDataset
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.compute import native_autocast
from coldfuse.training.encoding import Intake, TokenizedTexts, encode_all, tokenize
from coldfuse.training.head import LinearHead, fit_linear_probe
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.model import Classifier, shared_tensors
from coldfuse.training.schedule import derive_seed, epoch_batches, learning_rate_factor

SCORING_BATCH = 64
"""Texts that pass through the body at once when nothing is trained."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How every contributor trains."""

    num_epochs: int
    learning_rate: float
    batch_size: int = 32
    warmup_fraction: float = 0.06
    dropout: float = 0.1
    max_length: int = 64
    """Tokens of a text that are read, also in scoring."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A tokenised data set."""

    texts: TokenizedTexts
    labels_N: Tensor  # noqa: N815 - its name ends in its shape

    @classmethod
    def of(cls, data: TextDataset, base: Path, max_length: int) -> Labelled:
        """Tokenise as the base wants it."""
        texts = tokenize(load_tokenizer(base), data, Intake(max_length=max_length))
        return cls(texts=texts, labels_N=torch.tensor(data.labels))


def fit_head(body: nn.Module, data: Labelled, num_classes: int) -> LinearHead:
    """Fit a linear probe on the body's features."""
    features = encode_all(body, data.texts, batch_size=SCORING_BATCH)
    return fit_linear_probe(features, data.labels_N, num_classes=num_classes)


def mean_head(heads: Sequence[LinearHead]) -> LinearHead:
    """Return the head whose numbers are the means of these."""
    weight = torch.stack([head.weight for head in heads]).mean(dim=0)
    return LinearHead(weight=weight, bias=torch.stack([head.bias for head in heads]).mean(dim=0))


def accuracy(body: nn.Module, head: LinearHead, data: Labelled) -> float:
    """Score body and head."""
    return head.accuracy(encode_all(body, data.texts, batch_size=SCORING_BATCH), data.labels_N)


def train(
    base: Path, head: LinearHead, data: Labelled, settings: Training, *, seed: int
) -> tuple[dict[str, Tensor], LinearHead]:
    """Return the fine-tuned body's tensors by the names in the base's files, and the head that goes with it."""
    torch.manual_seed(derive_seed(seed, "dropout"))
    body = load_body(base)
    model = Classifier(body, head, dropout=settings.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
    num_steps = settings.num_epochs * math.ceil(len(data.texts) / settings.batch_size)
    model.train()
    step = 0
    for epoch in range(settings.num_epochs):
        order = derive_seed(seed, "order", epoch)
        for batch in epoch_batches(data.texts.lengths, batch_size=settings.batch_size, seed=order):
            factor = learning_rate_factor(step, num_steps=num_steps, warmup_fraction=settings.warmup_fraction)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * factor
            with native_autocast(torch.device("cpu")):
                loss = model(labels=data.labels_N[batch], **data.texts.batch(batch, torch.device("cpu"))).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    body.eval()
    tuned = LinearHead(weight=model.head.weight.detach().clone(), bias=model.head.bias.detach().clone())
    return shared_tensors(body, open_checkpoint(base).schema), tuned
