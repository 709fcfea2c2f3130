"""Multitask training on the pooled data of several data sets: one body, and a head of its own for each data set.

The heads are blocks of rows of one linear head; an example's loss and answer look at the block of its data set alone:

    loss = −log softmax(z_B)[y],  B the classes of the example's data set

so that it trains by the node's own loop, like any other task. It stands for what data owners would get if they gave
their data away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from coldfuse.data.dataset import TextDataset
from coldfuse.training.classifying import TextFeatures, classifier_of, fit_head, logits_of, tokenize_for
from coldfuse.training.encoding import TokenizedTexts
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks.task import Feature, TaskModel
from coldfuse.training.tasks.text_classification import TextClassification

_BETWEEN = "\x1f"
"""What stands between the name of a data set and that of its class."""


def pool(parts: Mapping[str, TextDataset]) -> TextDataset:
    """Return the examples of several data sets as one, whose classes say which data set they are of.

    >>> one = TextDataset(texts=("a",), labels=(0,), label_names=("x",))
    >>> two = TextDataset(texts=("b",), labels=(1,), label_names=("x", "y"), text_pairs=("c",))
    >>> both = pool({"one": one, "two": two})
    >>> both.texts, both.labels, both.text_pairs, blocks_of(both.label_names)
    (('a', 'b'), (0, 2), ('', 'c'), [0, 1, 1])
    """
    texts: list[str] = []
    pairs: list[str] = []
    labels: list[int] = []
    names: list[str] = []
    for name, data in parts.items():
        labels += [label + len(names) for label in data.labels]
        names += [f"{name}{_BETWEEN}{label}" for label in data.label_names]
        texts += data.texts
        pairs += data.text_pairs or [""] * len(data)
    return TextDataset(
        texts=tuple(texts), labels=tuple(labels), label_names=tuple(names),
        text_pairs=tuple(pairs) if any(pairs) else None,
    )  # fmt: skip


def blocks_of(label_names: Sequence[str]) -> list[int]:
    """Return the number of the data set that each class is of."""
    sets = [name.partition(_BETWEEN)[0] for name in label_names]
    order = list(dict.fromkeys(sets))
    return [order.index(name) for name in sets]


@dataclass(frozen=True, kw_only=True)
class _Blocks:
    """The loss of an example among the classes of its own data set."""

    block_K: Tensor  # noqa: N815 - its name ends in its shape

    def masked(self, logits_NK: Tensor, labels_N: Tensor) -> Tensor:  # noqa: N803
        """Return the logits, with those of other data sets' classes as never."""
        block_K = self.block_K.to(logits_NK.device)  # noqa: N806
        return logits_NK.masked_fill(block_K[labels_N].unsqueeze(1) != block_K, float("-inf"))

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss."""
        return cross_entropy(self.masked(logits, labels), labels)


@dataclass(frozen=True, kw_only=True)
class Multitask(TextClassification):
    """Classes of several data sets, each example among those of its own; see `pool`."""

    name: ClassVar[str] = "multitask"

    def load(self, base_dir: Path, examples: TextDataset, settings: TrainingSettings) -> TaskModel:
        """Put a head of zeros for all data sets on the base's body."""
        loaded = super().load(base_dir, examples, settings)
        classifier_of(loaded).loss = _Blocks(block_K=torch.tensor(blocks_of(examples.label_names)))
        return loaded

    def encode(self, loaded: TaskModel, examples: TextDataset) -> TextFeatures:
        """Tokenise single texts as single texts, and pairs as pairs."""
        pairs = examples.text_pairs
        if pairs is None:
            return super().encode(loaded, examples)
        of_kinds = [[i for i, pair in enumerate(pairs) if bool(pair) == is_pair] for is_pair in (False, True)]
        singles, both = (examples.take(indices) for indices in of_kinds)
        parts = [tokenize_for(loaded, replace(singles, text_pairs=None))] if len(singles) else []
        parts.append(tokenize_for(loaded, both))
        place = {index: number for number, index in enumerate([*of_kinds[0], *of_kinds[1]])}
        whole = _joined(parts).take([place[index] for index in range(len(examples))])
        return TextFeatures(texts=whole, labels=examples.labels)

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Fit all heads on the unchanged body's features, each to its own data set."""
        fit_head(loaded, features, classifier_of(loaded).loss)

    def score(self, loaded: TaskModel, examples: TextDataset, features: Sequence[Feature]) -> float:
        """Return the share of the examples whose most likely class, of those of their data set, is their label."""
        logits_NK = logits_of(loaded, features)  # noqa: N806
        labels_N = torch.tensor(examples.labels, device=logits_NK.device)  # noqa: N806
        blocks = classifier_of(loaded).loss
        assert isinstance(blocks, _Blocks)  # noqa: S101 - `load` has put it there
        return float((blocks.masked(logits_NK, labels_N).argmax(dim=1) == labels_N).double().mean())


def _joined(parts: Sequence[TokenizedTexts]) -> TokenizedTexts:
    """Return the texts of all parts, one part after the other."""
    types = [part.token_type_ids for part in parts]
    return TokenizedTexts(
        input_ids=[ids for part in parts for ids in part.input_ids],
        token_type_ids=None if None in types else [row for rows in types for row in rows or ()],
        pad_token_id=parts[0].pad_token_id, pad_to=parts[0].pad_to,
    )  # fmt: skip
