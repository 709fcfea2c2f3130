"""Text to text: an encoder-decoder reads one text and writes another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfuse.data.records import Role
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.rows import Rows, parse_rows, read_cells, said
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingSettings

_ROLES = (
    Role(
        "source", ("source", "input", "text", "document", "article", "question", "src", "inputs", "prompt", "dialogue")
    ),
    Role("target", ("target", "output", "summary", "highlights", "answer", "tgt", "targets", "completion", "label")),
)
_PERPLEXITY, _EXACT = "perplexity", "exact match"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A text, and what is to be written of it."""

    source: str
    """What is read."""
    target: str
    """What is written."""


@dataclass(frozen=True, kw_only=True)
class TextToText:
    """Learn to write one text from another with an encoder-decoder such as T5 (arXiv 1910.10683) or BART.

    The whole model travels. `private_head=yes` keeps the layer that chooses words at the node: it starts as the base's
    own, and is no longer the embedding where it was tied to it.
    """

    private_head: bool = False
    """True keeps the layer that predicts tokens at the node."""
    score_by: str = _PERPLEXITY
    """What chooses the best epoch: `perplexity` of the targets, or `exact match` of what is written (slower)."""
    prefix: str = ""
    """Text put before every source, such as T5's `summarize: `."""

    name: ClassVar[str] = "text2text-generation"

    def __post_init__(self) -> None:
        """Refuse what cannot be scored by."""
        if self.score_by not in (_PERPLEXITY, _EXACT):
            raise UserInputError(f"score_by is {self.score_by!r}, expected {_PERPLEXITY} or {_EXACT}")

    @property
    def metric(self) -> str:
        """Name of what `score` measures."""
        return self.score_by

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one."""
        return self.score_by == _EXACT

    @property
    def has_private_head(self) -> bool:
        """Whether the task puts a head of its own on the shared body."""
        return self.private_head

    def read(self, request: DataRequest, *, like: Rows[Pair] | None = None) -> Rows[Pair]:  # noqa: ARG002 - as all
        """Read pairs of texts; see `Task.read`."""
        records = read_cells(request, _ROLES)
        pairs, num_empty = parse_rows(records, _pair)
        return Rows(rows=tuple(pairs), options=self, report=said(records.report, num_empty=num_empty))

    def load(self, base_dir: Path, examples: Rows[Pair], settings: TrainingSettings) -> TaskModel:  # noqa: ARG002
        """Load the base with the layer that predicts tokens; see `Task.load`."""
        from coldfuse.training.tasks.seq2seq import load_seq2seq

        return load_seq2seq(base_dir, settings, private_head=self.private_head)

    def encode(self, loaded: TaskModel, examples: Rows[Pair]) -> list[Feature]:
        """Tokenise sources and targets, cut on the right; see `Task.encode`."""
        tokenizer, size = loaded.processor.tokenizer, loaded.processor.intake.max_length
        own = {"truncation": True, "max_length": size, "return_attention_mask": False}
        sources = tokenizer([self.prefix + pair.source for pair in examples.rows], **own)["input_ids"]
        targets = tokenizer(text_target=[pair.target for pair in examples.rows], **own)["input_ids"]
        loaded.processor.require_rows(max((max(ids) for ids in (*sources, *targets) if ids), default=0))
        nothing = [loaded.processor.filler]  # where no letter of a text is a token to this tokenizer
        return [
            {"input_ids": source or nothing, "labels": target or nothing, "length": len(source) + len(target)}
            for source, target in zip(sources, targets, strict=True)
        ]

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Leave the head as the base has it; see `Task.start_head`."""

    def score(self, loaded: TaskModel, examples: Rows[Pair], features: Sequence[Feature]) -> float:
        """Return the perplexity of the targets, or the share that is written word for word; see `Task.score`."""
        if self.score_by == _PERPLEXITY:
            from coldfuse.training.tasks.scoring import perplexity

            return perplexity(loaded, features)
        from coldfuse.training.tasks.seq2seq import write

        written = write(loaded, features)
        right = sum(text.strip() == pair.target.strip() for text, pair in zip(written, examples.rows, strict=True))
        return right / len(examples)


def _pair(row: Mapping[str, object]) -> Iterator[Pair]:
    """Yield a row as a pair of texts. Raises `ValueError` with what is wrong, never with what the row holds."""
    for role in ("source", "target"):
        if not isinstance(row[role], str | int | float) or isinstance(row[role], bool):
            raise ValueError(f"the {role} is {type(row[role]).__name__}, expected text")
    if str(row["source"]).strip() and str(row["target"]).strip():
        yield Pair(source=str(row["source"]), target=str(row["target"]))
