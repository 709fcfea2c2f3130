"""The linear probe of a model folder on a task: ColD-Frozen of arXiv 2212.01378, section 4."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.training.encoding import encode_all, pick_device, tokenize
from coldfuse.training.linear import fit_linear_probe
from coldfuse.training.loading import length_limit, load_body, load_tokenizer
from coldfuse.training.threads import compute_threads


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """How well a linear classifier on the frozen body does."""

    accuracy: float
    """Share of the test examples that it gets right."""
    num_train: int
    """Examples that the classifier was fitted on."""
    num_test: int
    """Examples that it was tested on."""


def linear_probe(
    model_dir: Path,
    train: TextDataset,
    test: TextDataset,
    *,
    max_length: int = 128,
    batch_size: int = 64,
    threads: int | None = None,
) -> ProbeResult:
    """Fit logistic regression on the frozen body's features of `train`, and score it on `test`.

    Nothing is random: the same folder, data and number of threads give the same accuracy.
    """
    return linear_probes(model_dir, [(train, test)], max_length=max_length, batch_size=batch_size, threads=threads)[0]


def linear_probes(
    model_dir: Path,
    tasks: Sequence[tuple[TextDataset, TextDataset]],
    *,
    max_length: int = 128,
    batch_size: int = 64,
    threads: int | None = None,
) -> list[ProbeResult]:
    """Probe one model on several tasks, each a train and a test set, and load it once."""
    for train, test in tasks:
        if train.label_names != test.label_names:
            raise UserInputError(
                f"train and test have different classes: {train.label_names[:8]} and {test.label_names[:8]}; read the "
                "test file with the training file's label_names"
            )
    device = pick_device("auto")
    with compute_threads(threads):
        body, tokenizer = load_body(model_dir).to(device), load_tokenizer(model_dir)
        max_length = min(max_length, length_limit(body, tokenizer))

        def features_and_labels(data: TextDataset) -> tuple[Tensor, Tensor]:
            texts = tokenize(tokenizer, data, max_length=max_length)
            return encode_all(body, texts, batch_size=batch_size), torch.tensor(data.labels, device=device)

        results = []
        for train, test in tasks:
            probe = fit_linear_probe(*features_and_labels(train), num_classes=train.num_classes)
            accuracy = probe.accuracy(*features_and_labels(test))
            results.append(ProbeResult(accuracy=accuracy, num_train=len(train), num_test=len(test)))
    return results
