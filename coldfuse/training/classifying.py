"""What the tasks that put one linear head on a text's features have in common: load, tokenise, pad, and look inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from coldfuse.data.dataset import TextDataset
from coldfuse.training.compute import pick_device
from coldfuse.training.encoding import Texts, TokenizedTexts, encode_all, tokenize
from coldfuse.training.frozen import Passing
from coldfuse.training.head import STRENGTH, LinearHead, Loss, fit_linear_head
from coldfuse.training.intake import find_intake
from coldfuse.training.learnt import LearntTexts, targets_of
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.model import Classifier
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks.task import Feature, TaskModel

_CPU = torch.device("cpu")
_SAMPLE = TextDataset(texts=("a text",), labels=(0,), label_names=("any",))

Label = int | float | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class TextFeatures(Sequence[Feature]):
    """Tokenised texts with their labels, as features that are made when they are asked for."""

    texts: TokenizedTexts
    """Tokens of each text."""
    labels: Sequence[Label]
    """What each text is to be given."""

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> TextFeatures: ...
    def __getitem__(self, index: int | slice) -> Feature | TextFeatures:
        """Return one text's feature, or those of a slice."""
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        feature: dict[str, object] = {
            "input_ids": self.texts.input_ids[index], "labels": self.labels[index],
            "length": self.texts.lengths[index],
        }  # fmt: skip
        if self.texts.token_type_ids is not None:
            feature["token_type_ids"] = self.texts.token_type_ids[index]
        return feature

    def take(self, indices: Sequence[int]) -> TextFeatures:
        """Return the features at `indices`, in that order."""
        return TextFeatures(texts=self.texts.take(indices), labels=[self.labels[i] for i in indices])


@dataclass(frozen=True, kw_only=True)
class EncodedTexts(Sequence[Feature]):
    """What a body has made of texts, with their labels: features of which no body is asked any more."""

    encoded: Tensor
    """What the body makes of each text, shape (N, H), float32."""
    labels: Sequence[Label]
    """What each text is to be given."""

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> EncodedTexts: ...
    def __getitem__(self, index: int | slice) -> Feature | EncodedTexts:
        """Return one text's label, or the texts of a slice."""
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return {"labels": self.labels[index], "length": 1}

    def take(self, indices: Sequence[int]) -> EncodedTexts:
        """Return the features at `indices`, in that order."""
        places = torch.tensor(list(indices), dtype=torch.long)
        return EncodedTexts(encoded=self.encoded[places], labels=[self.labels[i] for i in indices])


def load_classifier(base_dir: Path, *, num_outputs: int, settings: TrainingSettings) -> TaskModel:
    """Load the body of the base, and put a linear head of zeros on it.

    Args:
        base_dir: The base's folder.
        num_outputs: Rows of the head.
        settings: How many tokens of a text are read, how much is dropped before the head, and where it is tried.

    Raises:
        UserInputError: The folder holds no model that can be trained on texts.
    """
    body, tokenizer = load_body(base_dir, may_lack=True).to(pick_device(settings.device)), load_tokenizer(base_dir)
    intake = find_intake(body, tokenizer, max_length=settings.max_length, trains=True)
    sample = tokenize(tokenizer, _SAMPLE, intake)
    num_features = encode_all(body, sample).shape[1]
    head = LinearHead(weight=torch.zeros(num_outputs, num_features), bias=torch.zeros(num_outputs))
    return TaskModel(
        model=Classifier(body, head, dropout=settings.dropout, intake=intake), body=body, processor=tokenizer,
        collate=partial(collate_texts, pad_token_id=sample.pad_token_id, pad_to=intake.pad_to),
    )  # fmt: skip


def tokenize_for(loaded: TaskModel, data: Texts) -> TokenizedTexts:
    """Turn texts into tokens as the model's body takes them."""
    return tokenize(loaded.processor, data, classifier_of(loaded).intake)


def collate_texts(features: Sequence[Feature], *, pad_token_id: int, pad_to: int | None) -> dict[str, Tensor]:
    """Pad a few texts to the longest of them, and put their labels beside them."""
    batch = _texts_of(features, pad_token_id=pad_token_id, pad_to=pad_to).batch(range(len(features)), _CPU)
    return batch | {"labels": torch.tensor([feature["labels"] for feature in features])}


def learnt_texts(
    loaded: TaskModel, data: Any, features: Sequence[Feature], *, settings: TrainingSettings, stop: Callable[[], bool]
) -> LearntTexts | None:
    """Return what is trained on as texts with what is to be said of each; None of another kind of task.

    Args:
        loaded: The model.
        data: What it is trained on.
        features: What its task has encoded of that.
        settings: How it is trained.
        stop: Asked while texts pass through other bodies.
    """
    if not isinstance(loaded.model, Classifier) or not isinstance(features, TextFeatures):
        return None
    return LearntTexts(
        texts=data, targets=targets_of(features.labels),
        own=lambda rows: body_features(loaded, features.take(rows)),
        passing=Passing(
            max_length=settings.max_length, device=settings.device, threads=settings.threads, stop=stop
        ),
    )  # fmt: skip


def body_features(loaded: TaskModel, features: Sequence[Feature]) -> Tensor:
    """Return what the body makes of the texts, shape (N, H), without dropout; the head is not asked."""
    if isinstance(features, EncodedTexts):
        return features.encoded
    classifier = classifier_of(loaded)
    texts = (
        features.texts
        if isinstance(features, TextFeatures)
        else _texts_of(features, pad_token_id=loaded.processor.pad_token_id, pad_to=classifier.intake.pad_to)
    )
    return encode_all(classifier.body, texts)


@torch.no_grad()
def logits_of(loaded: TaskModel, features: Sequence[Feature]) -> Tensor:
    """Return what the head says of the texts, shape (N, outputs)."""
    head = classifier_of(loaded).linear_head()
    return body_features(loaded, features) @ head.weight.T + head.bias


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error of a head with one output."""
    return mse_loss(logits.squeeze(-1), labels)


def summed_over_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the examples of all labels' binary cross-entropies together."""
    return binary_cross_entropy_with_logits(logits, labels) * logits.shape[-1]


def fit_head(loaded: TaskModel, features: Sequence[Feature], loss: Loss, *, strength: float = STRENGTH) -> None:
    """Make the head what minimises a loss on the unchanged body's features.

    Args:
        loaded: The model.
        features: Texts with their labels.
        loss: Mean loss of logits and labels.
        strength: The inverse of the L2 penalty.
    """
    inputs = body_features(loaded, features)
    labels = torch.tensor([feature["labels"] for feature in features], device=inputs.device)
    num_outputs = classifier_of(loaded).head.out_features
    set_head(loaded, fit_linear_head(inputs, labels, num_outputs=num_outputs, loss=loss, strength=strength))


def set_head(loaded: TaskModel, head: LinearHead) -> None:
    """Give the model a head that was fitted."""
    classifier = classifier_of(loaded)
    with torch.no_grad():
        classifier.head.weight.copy_(head.weight)
        classifier.head.bias.copy_(head.bias)


def classifier_of(loaded: TaskModel) -> Classifier:
    """Return the model as what `load_classifier` made of it."""
    assert isinstance(loaded.model, Classifier)  # noqa: S101 - the tasks that call this have loaded it
    return loaded.model


def _texts_of(features: Sequence[Feature], *, pad_token_id: int, pad_to: int | None) -> TokenizedTexts:
    columns: Any = {
        name: [feature[name] for feature in features] if name in features[0] else None
        for name in ("input_ids", "token_type_ids")
    }
    return TokenizedTexts(**columns, pad_token_id=pad_token_id, pad_to=pad_to)
