"""Masked language modelling on unlabelled private text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfuse.errors import UserInputError
from coldfuse.training.tasks.rows import Rows
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel
from coldfuse.training.tasks.texts import Passage, read_texts

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingSettings
    from coldfuse.training.tasks.blocks import Blocks


@dataclass(frozen=True, kw_only=True)
class MaskedLM:
    """Predict hidden tokens of private text (BERT, arXiv 1810.04805).

    The head that predicts them travels where the base's files have it; else it stays at the node, and starts from being
    trained alone, on a body that is left as it is.
    """

    packed: bool = True
    """True packs documents into full blocks; false begins a block with every document."""
    mask_fraction: float = 0.15
    """Share of the tokens that are hidden, at least one of every block."""

    name: ClassVar[str] = "fill-mask"
    metric: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    has_private_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse a share that hides next to nothing, or everything."""
        if not 0.01 <= self.mask_fraction <= 0.9:
            raise UserInputError(f"mask_fraction is {self.mask_fraction}, expected 0.01 to 0.9")

    def read(self, request: DataRequest, *, like: Rows[Passage] | None = None) -> Rows[Passage]:  # noqa: ARG002 - as all tasks
        """Read documents: text files, or a column of texts; see `Task.read`."""
        return read_texts(request, options=self)

    def load(self, base_dir: Path, examples: Rows[Passage], settings: TrainingSettings) -> TaskModel:  # noqa: ARG002
        """Load the base with its masked-language-modelling head; see `Task.load`."""
        from functools import partial

        from coldfuse.training.tasks.masking import Masking, collate_masked, mask_anew_in_training
        from coldfuse.training.tasks.models import load_language_model

        loaded = load_language_model(base_dir, "AutoModelForMaskedLM", settings)
        tokenizer, intake = loaded.processor.tokenizer, loaded.processor.intake
        if tokenizer.mask_token_id is None:
            raise UserInputError(
                f"{base_dir}: its tokenizer has no mask token, so that nothing can be hidden; expected a base such as "
                "BERT, or take --task text-generation for one that reads from left to right"
            )
        masking = Masking(
            mask_token=tokenizer.mask_token_id, num_tokens=min(len(tokenizer), intake.num_tokens or len(tokenizer)),
            special=frozenset(tokenizer.all_special_ids), fraction=self.mask_fraction,
        )  # fmt: skip
        mask_anew_in_training(loaded.model, masking)
        filler = loaded.processor.filler
        loaded.collate = partial(collate_masked, masking=masking, filler=filler, pad_to=intake.pad_to)
        return loaded

    def encode(self, loaded: TaskModel, examples: Rows[Passage]) -> Blocks:
        """Cut the documents into blocks, each between the special tokens of a text; see `Task.encode`."""
        import numpy as np

        from coldfuse.training.tasks.blocks import blocks_of, surroundings, tokenize_documents

        tokenizer, intake = loaded.processor.tokenizer, loaded.processor.intake
        before, after = surroundings(tokenizer)
        between = [tokenizer.sep_token_id] if self.packed and tokenizer.sep_token_id is not None else []
        ids = tokenize_documents(tokenizer, [passage.text for passage in examples.rows], special=False)
        blocks = blocks_of(
            (([*own, *between] if passage.ends else own, passage.begins)
             for own, passage in zip(ids, examples.rows, strict=True)),
            size=max(1, intake.max_length - len(before) - len(after)), packed=self.packed,
        )  # fmt: skip
        plain = ~np.isin(blocks.tokens, tokenizer.all_special_ids)
        spans = [(first, end) for first, end in blocks.spans if plain[first:end].any()]  # else nothing can be hidden
        loaded.processor.require_rows(int(blocks.tokens.max(initial=0)))
        if not spans:
            raise UserInputError(
                "the texts have no token that the tokenizer knows, so that nothing can be hidden; the tokenizer is not "
                "of these texts' language or script"
            )
        return replace(blocks, spans=spans, before=before, after=after)

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Train what the base's files lack of the head, on the unchanged body; see `Task.start_head`."""
        from coldfuse.training.tasks.head_alone import train_alone

        train_alone(loaded, features)

    def score(self, loaded: TaskModel, examples: Rows[Passage], features: Sequence[Feature]) -> float:  # noqa: ARG002
        """Return the perplexity of the hidden tokens, the same ones every time; see `Task.score`."""
        from coldfuse.training.tasks.scoring import perplexity

        return perplexity(loaded, features)
