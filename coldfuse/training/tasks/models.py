"""Models with the head of a text task: load them, see that they take the tokenizer's tokens, and make batches."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.compute import pick_device
from coldfuse.training.encoding import Intake
from coldfuse.training.intake import find_intake, num_embedded_tokens
from coldfuse.training.job import TrainingSettings
from coldfuse.training.loading import length_limit, load_tokenizer, load_with_head
from coldfuse.training.model import stored_names_in
from coldfuse.training.tasks.task import Feature, TaskModel


@dataclass(frozen=True, kw_only=True)
class TextProcessor:
    """What makes features of texts: a tokenizer, and how the model takes its tokens."""

    tokenizer: Any
    """Tokenizer of the base."""
    intake: Intake
    """Lengths, padding and rows that the model has."""
    model: Any = None
    """Model with its head as it was loaded, whatever a way of training wraps around it."""
    private: tuple[nn.Parameter, ...] = ()
    """Parameters that the base's files lack, where the model's own head travels; themselves, as a way of training may
    wrap the model and so change their names."""

    @property
    def filler(self) -> int:
        """Token that pads; it is masked, so any that the model has will do."""
        pad, num_rows = int(self.tokenizer.pad_token_id), self.intake.num_tokens
        return pad if num_rows is None or pad < num_rows else 0

    def require_rows(self, highest: int) -> None:
        """Refuse tokens that the model's embedding has no row for."""
        num_rows = self.intake.num_tokens
        if num_rows is not None and highest >= num_rows:
            raise UserInputError(
                f"the data have tokens that the model does not know, such as number {highest}: its embedding has "
                f"{num_rows} rows and the tokenizer {len(self.tokenizer)} tokens; the tokenizer is not the model's, or "
                "model.resize_token_embeddings was not called"
            )

    def require_offsets(self) -> None:
        """Refuse a tokenizer that cannot tell where in a text its tokens stand."""
        if not self.tokenizer.is_fast:
            raise UserInputError(
                f"{type(self.tokenizer).__name__} cannot tell where in a text its tokens stand; put the tokenizer.json "
                "of a fast tokenizer beside the model"
            )


def load_language_model(base_dir: Path, auto_class: str, settings: TrainingSettings) -> TaskModel:
    """Load a model whose head travels with it, as far as the base's files have it; see `load_model`."""
    loaded = load_model(base_dir, auto_class, settings)
    stored = stored_names_in(loaded.model, loaded.model, open_checkpoint(base_dir).schema.keys())
    lacking = {name: own for name, own in loaded.model.named_parameters() if name not in stored}
    private = tuple(lacking.values())
    with torch.no_grad():
        for name, own in lacking.items():
            if name.endswith("bias"):  # a head's own bias: for some models transformers leaves what the memory held
                own.zero_()
    loaded.processor = replace(loaded.processor, model=loaded.model, private=private)
    return loaded


def load_model(base_dir: Path, auto_class: str, settings: TrainingSettings, **config: object) -> TaskModel:
    """Load a model with the head of a task on the device that trains it, and try its body on texts.

    Args:
        base_dir: The base's folder.
        auto_class: Name of transformers' class for the task.
        settings: How many tokens are read, and where.
        config: Settings of the model's configuration, such as `num_labels`.

    Returns:
        The model, still without a way to make batches.
    """
    model, tokenizer = load_with_head(base_dir, auto_class, **config), load_tokenizer(base_dir)
    model = model.to(pick_device(settings.device))
    body: Any = model.base_model
    if getattr(model.config, "is_encoder_decoder", False):
        limit = length_limit(body, tokenizer)
        intake = Intake(max_length=min(settings.max_length, limit), num_tokens=num_embedded_tokens(model))
    else:
        intake = find_intake(body, tokenizer, max_length=settings.max_length, trains=True)
    return TaskModel(model=model, processor=TextProcessor(tokenizer=tokenizer, intake=intake), collate=_no_batches)


def body_of(model: Any) -> nn.Module:
    """Return the body of a model with a head: what a base of another head, or of none, has in its files too."""
    body: nn.Module = model.base_model
    return body


def _no_batches(features: Sequence[Feature]) -> dict[str, Tensor]:
    raise NotImplementedError("the task that loads a model says how its batches are made")


def pad(rows: Sequence[Sequence[int]], filler: int, *, to: int | None = None) -> Tensor:
    """Return rows of numbers as one tensor, filled up on the right.

    >>> pad([[1], [2, 3]], 0).tolist()
    [[1, 0], [2, 3]]
    """
    longest = to or max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def collate(features: Sequence[Feature], *, fillers: Mapping[str, int], pad_to: int | None = None) -> dict[str, Tensor]:
    """Return features as a batch.

    Padding is told by its place and never by its number: a GPT-2 pads with its end of sequence, which is to be learnt.

    Args:
        features: Each with lists of numbers under the names in `fillers`; a name that they lack is left out.
        fillers: What fills a list up to the longest of the batch, by name. `attention_mask` is made: 1 for a token.
        pad_to: Tokens to which all are filled, for a model that reads padding too.
    """
    columns: dict[str, list[Any]] = {
        name: [feature[name] for feature in features] for name in fillers if name in features[0]
    }
    batch = {name: pad(rows, fillers[name], to=pad_to) for name, rows in columns.items()}
    return batch | {"attention_mask": pad([[1] * len(row) for row in columns["input_ids"]], 0, to=pad_to)}


def takes_types(model: nn.Module, intake: Intake) -> bool:
    """Tell whether a model asks which text of a pair a token belongs to, and tells two apart."""
    asks = "token_type_ids" in inspect.signature(model.forward).parameters
    return asks and (intake.num_types is None or intake.num_types > 1)
