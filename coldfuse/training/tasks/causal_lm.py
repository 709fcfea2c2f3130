"""Causal language modelling on unlabelled private text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from coldfuse.training.tasks.rows import Rows, require_some
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel
from coldfuse.training.tasks.texts import Passage, read_texts

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingSettings
    from coldfuse.training.tasks.blocks import Blocks


@dataclass(frozen=True, kw_only=True)
class CausalLM:
    """Predict each token of private text from those before it.

    The whole model travels, the head that predicts too, tied to the embedding or not. Documents end with the
    tokenizer's end of sequence. One that is longer than a block goes on in the next, which repeats its last token, so
    that every token but the first is predicted once. A block of several documents shows the model those before as well,
    as in pretraining.
    """

    packed: bool = True
    """True packs documents into full blocks; false begins a block with every document."""

    name: ClassVar[str] = "text-generation"
    metric: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    has_private_head: ClassVar[bool] = False

    def read(self, request: DataRequest, *, like: Rows[Passage] | None = None) -> Rows[Passage]:  # noqa: ARG002 - as all tasks
        """Read documents: text files, or a column of texts; see `Task.read`."""
        return read_texts(request, options=self)

    def load(self, base_dir: Path, examples: Rows[Passage], settings: TrainingSettings) -> TaskModel:  # noqa: ARG002
        """Load the base with its language-modelling head; see `Task.load`."""
        from coldfuse.training.tasks.generating import load_generator

        return load_generator(base_dir, settings)

    def encode(self, loaded: TaskModel, examples: Rows[Passage]) -> Blocks:
        """Cut the documents into blocks; see `Task.encode`."""
        from coldfuse.training.tasks.blocks import blocks_of

        blocks = blocks_of(
            ended(loaded.processor.tokenizer, examples.rows), size=loaded.processor.intake.max_length,
            packed=self.packed, overlap=1,
        )  # fmt: skip
        loaded.processor.require_rows(int(blocks.tokens.max(initial=0)))
        return require_some(blocks.at_least(2), "the texts have no token that follows another")

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Train what the base's files lack of the head, on the unchanged body; see `Task.start_head`."""
        from coldfuse.training.tasks.head_alone import train_alone

        train_alone(loaded, features, shifted=True)

    def score(self, loaded: TaskModel, examples: Rows[Passage], features: Sequence[Feature]) -> float:  # noqa: ARG002
        """Return the perplexity of all tokens but the first of a document or stream; see `Task.score`."""
        from coldfuse.training.tasks.scoring import perplexity

        return perplexity(loaded, features)


def ended(tokenizer: Any, passages: Sequence[Passage]) -> Iterator[tuple[Sequence[int], bool]]:
    """Yield the tokens of each passage, as the tokenizer begins a text, and with one end of sequence where one ends.

    Each comes with whether a document begins with it. A passage without a token of its own is left out.
    """
    from coldfuse.training.tasks.blocks import surroundings, tokenize_documents

    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    before, after = surroundings(tokenizer)
    if end is not None and (not after or after[-1] != end):
        after = [*after, end]
    plain = tokenize_documents(tokenizer, [passage.text for passage in passages], special=False)
    for ids, passage in zip(plain, passages, strict=True):
        if ids:
            yield [*(before if passage.begins else ()), *ids, *(after if passage.ends else ())], passage.begins
