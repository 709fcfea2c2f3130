"""What a model's own classification head says of texts, for scores that ask for it.

A head is one of transformers' (a model for sequence classification whose files have it), or the linear one that a
coldfuse node keeps beside its fine-tuned body. Its classes need not be those of the data.

Shape letters: N texts, B of them in a batch, H features, Z classes of the head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.compute import native_autocast
from coldfuse.training.encoding import TokenizedTexts, run
from coldfuse.training.failures import ModelFailedError
from coldfuse.training.head import HEAD_FILE, read_head
from coldfuse.training.loading import load_with_head

_KIND = "ForSequenceClassification"


def probabilities(folder: Path, features_NH: Tensor, texts: TokenizedTexts) -> Tensor | str:
    """Return what the head says of each text, shape (N, Z), or why the model has no such head.

    Args:
        folder: The model's folder.
        features_NH: What the model's body makes of the texts, on the device that is to be used.
        texts: The texts, as tokens.
    """
    if (folder / HEAD_FILE).is_file():
        return _of_linear_head(folder / HEAD_FILE, features_NH)
    named = _named_class(folder)
    if not named.endswith(_KIND):
        return f"a {named or 'model of no class that its config.json names'} has no classification head"
    try:
        model = load_with_head(folder, "AutoModel" + _KIND)
        if reason := _why_not(folder, model):
            return reason
        return _of_model(model.to(features_NH.device), texts).softmax(dim=1)
    except (UserInputError, ModelFailedError) as error:
        return f"its head cannot be run: {error}"


def _of_linear_head(path: Path, features_NH: Tensor) -> Tensor | str:
    head, _ = read_head(path)
    if head.weight.shape[1] != features_NH.shape[1]:
        return f"{HEAD_FILE} is for {head.weight.shape[1]} features, and the body has {features_NH.shape[1]}"
    on_device = head.to(features_NH.device)
    logits_NZ: Tensor = features_NH @ on_device.weight.T + on_device.bias
    return logits_NZ.softmax(dim=1)


def _named_class(folder: Path) -> str:
    names = open_checkpoint(folder).config.get("architectures")
    return str(names[0])[:200] if isinstance(names, list) and names else ""


def _why_not(folder: Path, model: Any) -> str:
    """Say why the head of a loaded model is none to ask; "" for one that is."""
    prefix, stored = f"{model.base_model_prefix}.", open_checkpoint(folder).schema
    for name, parameter in model.named_parameters():
        if not name.startswith(prefix) and (name not in stored or stored[name].shape != tuple(parameter.shape)):
            return f"its files have no {name} of shape {list(parameter.shape)}, so its head says nothing yet"
    if model.config.num_labels < 2:
        return "its head predicts one number, no classes"
    if model.config.problem_type == "multi_label_classification":
        return "its head says of each label by itself whether it holds, so there is no distribution over classes"
    return ""


@torch.no_grad()
def _of_model(model: Any, texts: TokenizedTexts, *, batch_size: int = 64) -> Tensor:
    """Return the logits of all texts in their order, shape (N, Z)."""
    device, config = next(model.parameters()).device, model.config
    if config.pad_token_id is None:  # a decoder looks for a text's last token before those
        config.pad_token_id = texts.pad_token_id
    by_length = sorted(range(len(texts)), key=texts.lengths.__getitem__, reverse=True)
    model.eval()
    with native_autocast(device):
        logits_BZ = [
            run(model, texts.batch(by_length[first : first + batch_size], device)).logits.float()
            for first in range(0, len(by_length), batch_size)
        ]
    logits_NZ = torch.cat(logits_BZ)
    if not logits_NZ.isfinite().all():
        raise ModelFailedError(f"{type(model).__name__} gives logits that are not finite")
    return torch.empty_like(logits_NZ).index_copy_(0, torch.tensor(by_length, device=device), logits_NZ)
