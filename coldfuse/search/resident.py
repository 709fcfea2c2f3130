"""All models of a fusion in memory, as one function of their coefficients that torch can differentiate.

    θ(tensor) = θ_0 + Σ_i w_i(tensor) δ_i        the features of a text are those of the body with these parameters

Learned soups and AdaMerging need this: every step computes with every model's weights, so they are all resident.
Body and heads stay as they are, without dropout; only the coefficients learn.

Shape letters: T tensors, C contributions, B examples of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.data.dataset import TextDataset, halves
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.compute import to_device
from coldfuse.training.encoding import TokenizedTexts, encode, encode_all, tokenize
from coldfuse.training.head import LinearHead, fit_linear_probe
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.model import stored_parameters

_SCORING_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a search looks at: texts, and the head that classifies them."""

    data: TextDataset
    """Held-out texts; with a head, whoever minimises entropy does not look at their labels."""
    head: LinearHead | None = None
    """Fixed head. Without one, a linear probe is fitted to half of the data on the base's features, and stays fixed;
    what is minimised is then taken over the other half."""


@dataclass(frozen=True, kw_only=True)
class ReadyTask:
    """A task's tokens on their device, with its head."""

    texts: TokenizedTexts
    labels_N: Tensor  # noqa: N815
    head: LinearHead


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a search found."""

    table: Mapping[str, tuple[float, ...]]
    """Coefficients by the tensor's name in the base's files; `*` stands for all others."""
    before: float
    """Value of what is minimised, over all texts, at the start."""
    after: float
    """Value of what is minimised, over all texts, at the end."""


class Encoder(nn.Module):
    """Texts to features, as a module whose parameters can be replaced."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the features of a batch, shape (B, H)."""
        return encode(self.body, batch)


@dataclass(frozen=True, kw_only=True)
class ResidentModels:
    """A base and what each contribution changed."""

    encoder: Encoder
    tokenizer: Any
    stored: Mapping[str, str]
    """Name of each parameter in the files, by the body's own name."""
    deltas: Mapping[str, Tensor]
    """Stacked δ of all contributions, by the body's own name; float32."""
    num_contributions: int
    """Number of contributions, C."""

    @property
    def num_tensors(self) -> int:
        """Number of tensors, T."""
        return len(self.stored)

    @property
    def device(self) -> torch.device:
        """Device on which everything lies."""
        return next(self.encoder.parameters()).device

    def blend(self, weights_TC: Tensor) -> dict[str, Tensor]:
        """Return θ_0 + Σ_i w_i δ_i, for `logits`. A single row of weights stands for all tensors."""
        base = dict(self.encoder.body.named_parameters())
        rows = weights_TC.expand(self.num_tensors, -1)
        return {
            f"body.{name}": base[name] + torch.tensordot(row_C, self.deltas[name], 1)
            for name, row_C in zip(self.stored, rows, strict=True)
        }

    def logits(self, parameters: Mapping[str, Tensor], task: ReadyTask, indices: Sequence[int]) -> Tensor:
        """Return what the task's head says of some texts, shape (B, K)."""
        batch = task.texts.batch(indices, self.device)
        features_BH = torch.func.functional_call(self.encoder, dict(parameters), (batch,))
        logits_BK: Tensor = features_BH @ task.head.weight.T + task.head.bias
        return logits_BK

    def table(self, weights_TC: Tensor, others: float) -> dict[str, tuple[float, ...]]:
        """Return the coefficients by stored name; tensors that the body does not use get `others`."""
        rows = [tuple(float(weight) for weight in row_C) for row_C in weights_TC.detach().cpu()]
        if len(rows) == 1:
            return {"*": rows[0]}
        return {"*": (others,) * self.num_contributions, **dict(zip(self.stored.values(), rows, strict=True))}


def load_models(base: Path, models: Iterable[Path], count: int, *, device: str = "cpu") -> ResidentModels:
    """Load a base and `count` models of its schema; each folder is read before the next is asked for."""
    body = to_device(load_body(base), device).eval().requires_grad_(False)
    stored = stored_parameters(body, open_checkpoint(base).schema.keys())
    parameters = dict(body.named_parameters())
    deltas = {name: torch.empty(count, *parameters[name].shape, device=parameters[name].device) for name in stored}
    for index, folder in enumerate(models):
        finetuned = dict(load_body(folder).named_parameters())
        for name, stack in deltas.items():
            stack[index] = finetuned[name].detach().to(stack.device) - parameters[name]
    return ResidentModels(
        encoder=Encoder(body), tokenizer=load_tokenizer(base), stored=stored, deltas=deltas, num_contributions=count
    )


def ready(models: ResidentModels, task: Task, *, max_length: int = 128) -> ReadyTask:
    """Tokenise a task's texts, and fit its head if it brings none."""
    body, device = models.encoder.body, models.device
    intake = find_intake(body, models.tokenizer, max_length=max_length)

    def tokens_and_labels(data: TextDataset) -> tuple[TokenizedTexts, Tensor]:
        return tokenize(models.tokenizer, data, intake), torch.tensor(data.labels, device=device)

    head, data = task.head, task.data
    if head is None:
        fitted_on, data = halves(data)
        texts, labels_N = tokens_and_labels(fitted_on)
        features_NH = encode_all(body, texts, batch_size=_SCORING_BATCH)
        head = fit_linear_probe(features_NH, labels_N, num_classes=data.num_classes)
    num_features = int(getattr(body.config, "hidden_size", head.weight.shape[1]))
    if head.weight.shape[1] != num_features:
        raise UserInputError(f"a head for {head.weight.shape[1]} features was given, the base has {num_features}")
    texts, labels_N = tokens_and_labels(data)
    return ReadyTask(texts=texts, labels_N=labels_N, head=head.to(device))


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yield batches of indices without end: all of them in a random order, then again in another."""
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        yield from (order[start : start + batch_size] for start in range(0, count, batch_size))


@torch.no_grad()
def over_all(count: int, objective: Callable[[list[int]], Tensor]) -> float:
    """Return the mean of an objective, itself a mean over a batch, over all indices."""
    order = list(range(count))
    batches = [order[start : start + _SCORING_BATCH] for start in range(0, count, _SCORING_BATCH)]
    return sum(float(objective(batch)) * len(batch) for batch in batches) / count
