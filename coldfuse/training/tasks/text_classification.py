"""Texts, or pairs of texts, with one label each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfuse.data.dataset import TextDataset, require_pairs_alike
from coldfuse.data.reading import read_dataset
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.classifying import TextFeatures
    from coldfuse.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class TextClassification:
    """A private linear head on the mean of the shared body's last hidden states."""

    name: ClassVar[str] = "text-classification"
    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = True

    def read(self, request: DataRequest, *, like: TextDataset | None = None) -> TextDataset:
        """Read texts and labels; see `Task.read`."""
        columns = request.columns
        if others := columns.keys() - {"text", "text_pair", "label"}:
            raise UserInputError(f"--column {min(others)}=…: {self.name} reads text, text_pair and label")
        dataset = read_dataset(
            request.data, text_column=columns.get("text"), text_pair_column=columns.get("text_pair"),
            label_column=columns.get("label"), label_names=like.label_names if like else None,
            file_format=request.file_format, limit=request.limit,
        )  # fmt: skip
        if like is not None:
            require_pairs_alike(like, dataset)
        return dataset

    def load(self, base_dir: Path, examples: TextDataset, settings: TrainingSettings) -> TaskModel:
        """Put a head of zeros on the base's body; see `Task.load`."""
        from coldfuse.training.classifying import load_classifier

        loaded = load_classifier(base_dir, num_outputs=examples.num_classes, settings=settings)
        loaded.notes = {"labels": json.dumps(list(examples.label_names))}
        return loaded

    def encode(self, loaded: TaskModel, examples: TextDataset) -> TextFeatures:
        """Tokenise; see `Task.encode`."""
        from coldfuse.training.classifying import TextFeatures, tokenize_for

        return TextFeatures(texts=tokenize_for(loaded, examples), labels=examples.labels)

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Make the head the linear probe of the body; see `Task.start_head`."""
        import torch

        from coldfuse.training.classifying import body_features, classifier_of, set_head
        from coldfuse.training.head import fit_linear_probe

        labels = torch.tensor([feature["labels"] for feature in features])
        num_classes = classifier_of(loaded).head.out_features
        inputs = body_features(loaded, features)
        set_head(loaded, fit_linear_probe(inputs, labels.to(inputs.device), num_classes=num_classes))

    def score(self, loaded: TaskModel, examples: TextDataset, features: Sequence[Feature]) -> float:
        """Return the share of the examples whose most likely class is their label; see `Task.score`."""
        import torch

        from coldfuse.training.classifying import body_features, classifier_of

        inputs = body_features(loaded, features)
        return classifier_of(loaded).linear_head().accuracy(inputs, torch.tensor(examples.labels, device=inputs.device))
