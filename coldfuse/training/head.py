"""The head: a linear classifier on the body's features, private to its task's node. Fitting, writing and reading it.

A head that is fitted on the features of a frozen body is its linear probe: the score of the body alone.

On disk it is a safetensors file, for the node's owner to use with the fine-tuned body: `weight`, `bias`, and the names
of its classes in the metadata.

Shape letters: N examples, H features, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from coldfuse.core.dtypes import to_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.durable import write_whole
from coldfuse.errors import UserInputError
from coldfuse.tensors.files import LocalFile, OpenFile
from coldfuse.tensors.header import Header, TensorEntry, format_header
from coldfuse.tensors.tensor_file import read_file_header

HEAD_FILE = "head.safetensors"
"""The name of a head's file, in a node's folder and beside a model."""

STRENGTH = 0.01
"""The inverse of the L2 penalty, `C` in scikit-learn: strong, as a task may have fewer examples than features."""

MAX_FITTING_EXAMPLES = 10_000
"""More examples hardly move a head, and each costs a pass through the body."""

_MAX_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """A fitted classifier: logits = features · weightᵀ + bias, on the features as they come from the body."""

    weight: Tensor
    """Shape (K, H), float32."""
    bias: Tensor
    """Shape (K,), float32."""

    def accuracy(self, features_NH: Tensor, labels_N: Tensor) -> float:
        """Return the share of examples whose most likely class is their label."""
        logits_NK = features_NH @ self.weight.T + self.bias
        return float((logits_NK.argmax(dim=1) == labels_N).double().mean())

    def to(self, device: torch.device) -> LinearHead:
        """Return the head on another device."""
        return LinearHead(weight=self.weight.to(device), bias=self.bias.to(device))


Loss = Callable[[Tensor, Tensor], Tensor]
"""loss(logits, labels): the mean over a batch."""


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of classes."""
    return cross_entropy(logits, labels)


def fit_linear_probe(
    features_NH: Tensor, labels_N: Tensor, *, num_classes: int, strength: float = STRENGTH
) -> LinearHead:
    """Minimise Σ_n −log p(y_n | x_n) + ‖W‖² / 2·strength by L-BFGS over standardised features.

    The minimum is that of scikit-learn's `LogisticRegression` (a test holds the two together); fitting with torch gives
    the trainer its private head and the evaluator its score from one place, on the same threads as everything else.

    Args:
        features_NH: What the body makes of the texts.
        labels_N: The texts' classes.
        num_classes: K, also where some class has no example.
        strength: The inverse of the L2 penalty.

    Raises:
        UserInputError: A feature is not finite.
    """
    return fit_linear_head(features_NH, labels_N, num_outputs=num_classes, loss=entropy, strength=strength)


def fit_linear_head(
    features_NH: Tensor, labels_N: Tensor, *, num_outputs: int, loss: Loss, strength: float = STRENGTH
) -> LinearHead:
    """Minimise N · loss + ‖W‖² / 2·strength by L-BFGS over standardised features.

    The problem is convex and starts from zero, so no seed is involved. Standardising is folded into weight and bias.

    Args:
        features_NH: What the body makes of the texts.
        labels_N: What is to be said of each.
        num_outputs: K, the outputs of the head.
        loss: A convex mean loss of logits and labels.
        strength: The inverse of the L2 penalty.

    Raises:
        UserInputError: A feature is not finite.
    """
    if not features_NH.isfinite().all():
        raise UserInputError(
            "the model gives features that are not finite: its weights are broken, fetch or make it anew"
        )
    mean_H, scale_H = features_NH.mean(dim=0), features_NH.std(dim=0, correction=0)
    scale_H = torch.where(scale_H > 1e-7, scale_H, torch.ones_like(scale_H))  # a constant feature says nothing
    inputs_NH = (features_NH - mean_H) / scale_H
    weight_KH = torch.zeros(num_outputs, inputs_NH.shape[1], device=inputs_NH.device, requires_grad=True)
    bias_K = torch.zeros(num_outputs, device=inputs_NH.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_KH, bias_K],
        max_iter=_MAX_STEPS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        value = loss(inputs_NH @ weight_KH.T + bias_K, labels_N)
        value = value + weight_KH.square().sum() / (2 * strength * len(labels_N))
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(objective)  # type: ignore[no-untyped-call]
    weight_KH = (weight_KH / scale_H).detach()
    return LinearHead(weight=weight_KH, bias=(bias_K - weight_KH @ mean_H).detach())


def save_head(path: Path, head: LinearHead, label_names: Sequence[str]) -> None:
    """Write a head and the names of its classes to a file, whole or not at all."""
    tensors = {"weight": head.weight, "bias": head.bias}
    specs = [(name, TensorSpec(dtype="F32", shape=tuple(tensor.shape))) for name, tensor in tensors.items()]
    data = [tensor.detach().cpu().float().contiguous().numpy().tobytes() for tensor in tensors.values()]
    write_whole(path, format_header(specs, {"labels": json.dumps(list(label_names))}) + b"".join(data))


def read_head(path: Path) -> tuple[LinearHead, tuple[str, ...]]:
    """Read a head that `save_head` wrote, and the names of its classes. Raises `UserInputError` for what is none."""
    if not path.is_file():
        raise UserInputError(f"{path}: no such file; expected the {HEAD_FILE} that a node keeps for its task")
    header = read_file_header(path)
    # A node's file has the names of its model, and may have more than the head: what the base's files lack.
    entries = {entry.name.removeprefix("head."): entry for entry in header.tensors if "body." not in entry.name}
    labels = _labels(header)
    shapes = {name: entry.spec.shape for name, entry in entries.items()}
    if not labels or shapes.keys() != {"weight", "bias"} or shapes["bias"] != (len(labels),):
        raise UserInputError(f"{path}: expected a head that coldfuse wrote: weight, bias and the names of its classes")
    if len(shapes["weight"]) != 2 or shapes["weight"][0] != len(labels):
        raise UserInputError(f"{path}: its weight has shape {list(shapes['weight'])} for {len(labels)} classes")
    with LocalFile(path).open() as file:
        return LinearHead(weight=_read(file, entries["weight"]), bias=_read(file, entries["bias"])), labels


def _labels(header: Header) -> tuple[str, ...]:
    try:
        labels = json.loads(header.metadata.get("labels", ""))
    except (ValueError, RecursionError):
        return ()
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def _read(file: OpenFile, entry: TensorEntry) -> Tensor:
    raw = np.empty(entry.spec.size_bytes, np.uint8)
    file.read_into(raw.data, entry.start)
    return torch.from_numpy(to_floats(raw, entry.spec.dtype).astype(np.float32)).reshape(entry.spec.shape)
