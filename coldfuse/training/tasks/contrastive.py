"""Pictures with a text each, told from all others: CLIP and its relatives.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020,
figure 3: the loss is the mean of two cross-entropies over a batch, of the text that belongs to a picture and of the
picture that belongs to a text. A model with a loss of its own (SigLIP: one of pairs, arXiv 2303.15343) keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfuse.data.records import Role, read_records
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.pictures import Pictures, pictures_of
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.settings import TrainingSettings

_ROLES = (
    Role("image", ("image", "img", "picture", "photo", "file", "file_name", "path"), what="pictures"),
    Role("text", ("text", "caption", "captions", "sentence", "description", "prompt", "alt_text"), what="texts"),
)


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """Tell which text belongs to which picture. The whole model travels: it has no private head."""

    name: ClassVar[str] = "contrastive-image-text"
    metric: ClassVar[str] = "retrieval accuracy@1"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = False

    def read(self, request: DataRequest, *, like: Pictures | None = None) -> Pictures:  # noqa: ARG002 - as all tasks
        """Read pictures and texts, and try each picture; see `Task.read`."""
        records = read_records(
            request.data, _ROLES, columns=request.columns, file_format=request.file_format, limit=request.limit
        )
        texts = tuple(_text(value, records.place(index)) for index, value in enumerate(records.columns["text"]))
        pictures, digests = pictures_of(records)
        return Pictures(pictures=pictures, digests=digests, texts=texts, report=records.report)

    def load(self, base_dir: Path, examples: Pictures, settings: TrainingSettings) -> TaskModel:  # noqa: ARG002
        """Load the base with both its towers; see `Task.load`."""
        from coldfuse.training.tasks.seeing import load_two_towers

        return load_two_towers(base_dir, settings)

    def encode(self, loaded: TaskModel, examples: Pictures) -> Sequence[Feature]:
        """Tokenise the texts; pictures are decoded batch by batch; see `Task.encode`."""
        tokens = loaded.processor.tokenize(examples.texts)
        return [
            {"picture": picture, "input_ids": ids, "length": loaded.processor.num_patches + len(ids)}
            for picture, ids in zip(examples.pictures, tokens, strict=True)
        ]

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Leave everything as the base has it; see `Task.start_head`."""

    def score(self, loaded: TaskModel, examples: Pictures, features: Sequence[Feature]) -> float:
        """Return how often the nearest text of all is a picture's own, and the nearest picture a text's, on average.

        Texts that are written alike, and pictures of the same bytes, are the same. See `Task.score`.
        """
        from coldfuse.training.tasks.seeing import retrieval_accuracy

        return retrieval_accuracy(loaded, features, texts=examples.texts, pictures=examples.digests)


def _text(value: object, place: str) -> str:
    """Return a cell's text; of a list of captions, the first."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, str):
        raise UserInputError(f"{place}: holds {type(first).__name__} instead of a text; name another column with "
                             "--column text=NAME")  # fmt: skip
    return first
