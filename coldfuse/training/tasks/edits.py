"""Edits: one fact, or a few, that a model shall say anew, while it says all else as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfuse.errors import UserInputError
from coldfuse.training.tasks.edit_rows import KINDS, EditRow, read_edit
from coldfuse.training.tasks.rows import Rows
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Learn to say a fact anew, and all else as before.

    The whole model travels, with its head. Trained on are the rows of `edit` and every other one of `keep`; the rows of
    `paraphrase` and the rest of `keep` choose the best epoch. The loss is MEND's (arXiv 2110.11309, equation 4):
    −log p(answer) over the edits, and `locality` times KL(base ‖ model) over what is kept.
    """

    locality: float = 10.0
    """How much what must stay counts beside the edit: MEND has c_edit = 0.1, which is the same."""

    name: ClassVar[str] = "edit"
    metric: ClassVar[str] = "edit score"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse a weight that is none."""
        if not 0 <= self.locality <= 1e6:  # also refuses NaN
            raise UserInputError(f"locality is {self.locality}, expected 0 to 1,000,000")

    def read(self, request: DataRequest, *, like: Rows[EditRow] | None = None) -> Rows[EditRow]:
        """Read an edit's file; see `Task.read`."""
        return read_edit(request, options=self, needs_edit=like is None)

    def split(
        self, examples: Rows[EditRow], *, validation_fraction: float, seed: int  # noqa: ARG002 - as of other tasks
    ) -> tuple[Rows[EditRow], Rows[EditRow]]:  # fmt: skip
        """Return what is trained on, and what validates: the edits do both, the paraphrases only validate."""
        kept = [place for place, row in enumerate(examples.rows) if row.kind == "keep"]
        apart = set(kept[1::2] or kept)
        train = [
            place
            for place, row in enumerate(examples.rows)
            if row.kind == "edit" or (row.kind == "keep" and (place not in apart or len(kept) == 1))
        ]
        validates = [place for place, row in enumerate(examples.rows) if row.kind != "keep" or place in apart]
        return examples.take(train), examples.take(validates)

    def load(self, base_dir: Path, examples: Rows[EditRow], settings: TrainingSettings) -> TaskModel:  # noqa: ARG002
        """Load the base with the head that its files have; see `Task.load`."""
        from coldfuse.training.tasks.editing import load_edited

        return load_edited(base_dir, settings)

    def encode(self, loaded: TaskModel, examples: Rows[EditRow]) -> list[Feature]:
        """Ask for the answer of each row; see `Task.encode`."""
        from coldfuse.training.tasks.editing import features_of

        return features_of(loaded, examples.rows, locality=self.locality)

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Leave the head as the base has it; see `Task.start_head`."""

    def score(self, loaded: TaskModel, examples: Rows[EditRow], features: Sequence[Feature]) -> float:  # noqa: ARG002
        """Return the harmonic mean over the kinds, as ROME's score S, of how probable the answers are.

        Of each row that is the answer's share of what answer and likeliest rival have together; without rivals its
        probability, by the token. It grows before an answer is right, so that it chooses between epochs.
        """
        from coldfuse.training.tasks.editing import answers_of

        found = answers_of(loaded, examples.rows)
        means = []
        for kind in KINDS:
            own = [one.probability for one, row in zip(found, examples.rows, strict=True) if row.kind == kind]
            means += [sum(own) / len(own)] if own else []
        return len(means) / sum(1 / mean for mean in means) if means and min(means) > 0 else 0.0
