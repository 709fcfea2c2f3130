"""Encoder-decoders: load them, with or without a private head; make their batches; have them write."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from coldfuse.errors import UserInputError
from coldfuse.training.failures import failures_of
from coldfuse.training.job import TrainingSettings
from coldfuse.training.scoring import scoring_batches
from coldfuse.training.tasks.models import collate, load_model, pad
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import affordable_tokens
from coldfuse.training.tasks.task import Feature, TaskModel


def load_seq2seq(base_dir: Path, settings: TrainingSettings, *, private_head: bool) -> TaskModel:
    """Load an encoder-decoder that writes.

    Args:
        base_dir: The base's folder.
        settings: How many tokens are read and written, and where.
        private_head: True for a head of its own, which is not the base's.

    Raises:
        UserInputError: The folder holds no encoder-decoder, or one whose head cannot be taken off.
    """
    loaded = load_model(base_dir, "AutoModelForSeq2SeqLM", settings)
    if private_head:
        keep_head_private(loaded)
    loaded.collate = partial(collate_pairs, filler=loaded.processor.filler)
    return loaded


def keep_head_private(loaded: TaskModel) -> None:
    """Give a model an output layer of its own, as it is now, and say that the rest is what is shared."""
    model: Any = loaded.model
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise UserInputError(f"{type(model).__name__} has no linear output layer that could stay private")
    model.set_output_embeddings(copy.deepcopy(head))  # no longer the embedding, where it was
    loaded.body = model.base_model if model.base_model is not model else _body_of(model)


def _body_of(model: Any) -> nn.Module:
    """Return the headless model of an architecture (T5's) whose model with a head does not hold it, of its parts."""
    with torch.device("meta"):
        body: nn.Module = AutoModel.from_config(model.config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    for name, _ in list(body.named_children()):
        setattr(body, name, getattr(model, name))
    return body


def collate_pairs(features: Sequence[Feature], *, filler: int) -> dict[str, Tensor]:
    """Return sources and targets as a batch; the padding of targets is not learnt."""
    labels: list[Any] = [feature["labels"] for feature in features]
    return collate(features, fillers={"input_ids": filler}) | {"labels": pad(labels, NO_LABEL)}


@torch.no_grad()
def write(loaded: TaskModel, features: Sequence[Feature]) -> list[str]:
    """Return what the model writes of each source, word by likeliest word, as long as the longest target at most."""
    model: Any = loaded.model
    was_training = model.training
    longest = max((len(feature["labels"]) for feature in features), default=1)  # type: ignore[arg-type]
    written = [""] * len(features)
    model.eval()
    try:
        for indices, batch in scoring_batches(loaded, features, tokens_at_once=affordable_tokens(model)):
            with failures_of(model, f"writing {len(indices)} texts"):
                ids = model.generate(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=longest,
                    do_sample=False, num_beams=1, use_cache=True,
                )  # fmt: skip
            texts = loaded.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
            for index, text in zip(indices, texts, strict=True):
                written[index] = text
    finally:
        model.train(was_training)
    return written
