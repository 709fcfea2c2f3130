"""Whether contributors can train a base that is no encoder or decoder of texts: one of pictures, or of two halves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldfuse.errors import UserInputError
from coldfuse.training.failures import failures_of
from coldfuse.training.loading import is_encoder_decoder, load_structure
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks.seeing import Grey, load_picture_classifier, load_two_towers
from coldfuse.training.tasks.seq2seq import load_seq2seq
from coldfuse.training.tasks.task import Feature, TaskModel

_SETTINGS = TrainingSettings(device="cpu")


def try_another_kind(model_dir: Path, *, is_tried: bool, has_tokenizer: bool) -> tuple[str, bool] | None:
    """Say what a base of another kind than texts alone reads, and what came of training it for a moment.

    Args:
        model_dir: A Hugging Face model folder.
        is_tried: Whether it is loaded and trained, and not only looked at.
        has_tokenizer: Whether texts can be made tokens of; without, it is tried on pictures alone, if on anything.

    Returns:
        The finding, and whether it reads texts; None for a base that reads texts and writes none of another length.

    Raises:
        UserInputError: No task trains it, or it does not work; the message says why.
    """
    body: Any = load_structure(model_dir)
    kind, inputs = type(body).__name__, getattr(body, "main_input_name", "input_ids")
    reads_texts, how = True, _two_towers if has_tokenizer else _pictures
    if all(hasattr(body, tower) for tower in ("vision_model", "text_model")):
        what = f"{kind} reads pictures and texts (contrastive-image-text, image-classification)"
    elif inputs == "pixel_values":
        what, how, reads_texts = f"{kind} reads pictures (image-classification)", _pictures, False
    elif inputs != "input_ids":
        raise UserInputError(f"{model_dir}: {kind} takes {inputs}, and no task reads such data")
    elif is_encoder_decoder(body):
        what, how = f"{kind} reads and writes texts (text2text-generation)", _text_to_text
        is_tried = is_tried and has_tokenizer
    else:
        return None
    if is_tried:
        how(model_dir)
        what += "; trained on two examples, it works"
    return what, reads_texts


def _pictures(model_dir: Path) -> None:
    loaded = load_picture_classifier(model_dir, num_classes=2, settings=_SETTINGS)
    _train(loaded, [{"picture": Grey(), "labels": label} for label in (0, 1)])


def _two_towers(model_dir: Path) -> None:
    loaded = load_two_towers(model_dir, _SETTINGS)
    tokens = loaded.processor.tokenize(["a text", "another"])
    _train(loaded, [{"picture": Grey(), "input_ids": ids} for ids in tokens])


def _text_to_text(model_dir: Path) -> None:
    loaded = load_seq2seq(model_dir, _SETTINGS, private_head=False)
    ids = loaded.processor.tokenizer(["a text", "another"])["input_ids"]
    _train(loaded, [{"input_ids": row, "labels": row} for row in ids])


def _train(loaded: TaskModel, features: Sequence[Feature]) -> None:
    """Pass two examples forward and back."""
    with failures_of(loaded.shared_part, "training on two examples"):
        loss = loaded.model.train()(**loaded.collate(features)).loss
        loss.backward()
    if not loss.isfinite():
        raise UserInputError(
            f"{type(loaded.shared_part).__name__} gives a loss that is not finite: its weights are broken, or it is "
            "not what its configuration says"
        )
