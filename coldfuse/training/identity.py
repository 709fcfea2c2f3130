"""What decides the outcome of a training: with the same, neither a checkpoint nor a finished delta is made again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from coldfuse.data.dataset import TextDataset
from coldfuse.training.settings import TrainingSettings

_UNDECISIVE = ("threads", "device", "checkpoint_every_s")
"""When to save and where to compute decide nothing but, at most, the last bits."""


def decisive_settings(settings: TrainingSettings) -> dict[str, object]:
    """Return the settings that decide."""
    return {name: value for name, value in asdict(settings).items() if name not in _UNDECISIVE}


def dataset_digest(dataset: TextDataset) -> str:
    """Return the digest of the data set's texts, labels and label names."""
    digest = hashlib.sha256(json.dumps(dataset.label_names).encode())
    pairs = dataset.text_pairs or [None] * len(dataset)
    for row in zip(dataset.texts, pairs, dataset.labels, strict=True):
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
