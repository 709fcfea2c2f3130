"""Texts, or pairs of texts, with a number each: how alike two sentences are (STS), how good a review is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfuse.data.records import Records, read_records
from coldfuse.data.roles import Role
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.targets import TEXT, TEXT_PAIR, TextsWithTargets, require_pairs_like, texts_of
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.classifying import TextFeatures
    from coldfuse.training.settings import TrainingSettings

LABEL = Role("label", ("label", "score", "similarity", "similarity_score", "rating", "value", "target", "labels"))
"""The number."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A private linear head with one output, trained on squared errors of numbers brought to 0…1 by their range."""

    name: ClassVar[str] = "regression"
    metric: ClassVar[str] = "Spearman"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = True

    def read(self, request: DataRequest, *, like: TextsWithTargets | None = None) -> TextsWithTargets:
        """Read texts and numbers; see `Task.read`."""
        records = read_records(
            request.data, [TEXT, TEXT_PAIR, LABEL], columns=request.columns, file_format=request.file_format,
            limit=request.limit,
        )  # fmt: skip
        numbers = [_number(records, index) for index in range(len(records))]
        low, high = like.bounds if like else (min(numbers), max(numbers))
        if not high > low:
            raise UserInputError(f"every example has the number {low:g}, expected different ones to learn from")
        texts, pairs = texts_of(records)
        made = TextsWithTargets(
            texts=texts, text_pairs=pairs, targets=tuple((number - low) / (high - low) for number in numbers),
            bounds=(low, high), report=records.report,
        )  # fmt: skip
        if like is not None:
            require_pairs_like(made, like)
        return made

    def load(self, base_dir: Path, examples: TextsWithTargets, settings: TrainingSettings) -> TaskModel:
        """Put a head of zeros on the base's body; see `Task.load`."""
        from coldfuse.training.classifying import classifier_of, load_classifier, squared_error

        loaded = load_classifier(base_dir, num_outputs=1, settings=settings)
        classifier_of(loaded).loss = squared_error
        loaded.notes = {"bounds": json.dumps(list(examples.bounds))}
        return loaded

    def encode(self, loaded: TaskModel, examples: TextsWithTargets) -> TextFeatures:
        """Tokenise; see `Task.encode`."""
        from coldfuse.training.classifying import TextFeatures, tokenize_for

        return TextFeatures(texts=tokenize_for(loaded, examples), labels=examples.targets)

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Fit a ridge regression on the body's features; see `Task.start_head`."""
        from coldfuse.training.classifying import fit_head, squared_error

        fit_head(loaded, features, squared_error)

    def score(self, loaded: TaskModel, examples: TextsWithTargets, features: Sequence[Feature]) -> float:
        """Return Spearman's rank correlation, 0 where all predictions or all numbers are alike; see `Task.score`."""
        from scipy.stats import spearmanr

        from coldfuse.training.classifying import logits_of

        said = logits_of(loaded, features).squeeze(1).cpu().tolist()
        if len(set(said)) < 2 or len(set(examples.targets)) < 2:
            return 0.0
        return float(spearmanr(said, list(examples.targets)).statistic)


def _number(records: Records, index: int) -> float:
    value = records.columns["label"][index]
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):  # a whole number of JSON may be of any length
        number = math.nan
    if not math.isfinite(number):
        raise UserInputError(
            f"{records.place(index)}: its label is no number; name the numbers' column with --column label=NAME"
        )
    return number
