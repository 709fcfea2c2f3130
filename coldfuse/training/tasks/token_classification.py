"""Words with a tag each: named entities, parts of speech."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from coldfuse.data.records import Role
from coldfuse.data.words import listing, quoted
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.rows import NO_LABEL, Rows, parse_rows, read_cells, require_some, said
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel
from coldfuse.training.tasks.words import OUTSIDE, TaggedWords, align, entity_f1, parse_sentence

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingSettings

_ROLES = (
    Role("tokens", ("tokens", "words", "word", "token", "sentence", "text"), what="words"),
    Role("tags", ("ner_tags", "tags", "labels", "pos_tags", "chunk_tags", "ner", "tag", "label", "entities")),
)
_MOST_TAGS = 10_000


@dataclass(frozen=True, kw_only=True)
class TokenClassification:
    """Tag the words of a sentence, with a private linear layer on the hidden state of each word's first token.

    Tags are text, or numbers whose names the file says. A sentence that is longer than the model's limit is read in
    pieces, so that every word is tagged.
    """

    tag_names: str = ""
    """Names of tags that are numbers, where the file does not say them: with spaces between, in their order."""

    name: ClassVar[str] = "token-classification"
    metric: ClassVar[str] = "entity F1"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = True

    def read(self, request: DataRequest, *, like: Rows[TaggedWords] | None = None) -> Rows[TaggedWords]:
        """Read words and tags: lists, texts with spaces, or CoNLL files; see `Task.read`.

        Validation data may have tags that the training data lack: they count as entities that are not found.
        """
        records = read_cells(request, _ROLES)
        declared = tuple(self.tag_names.split()) or records.class_names.get("tags", ())
        sentences, num_empty = parse_rows(records, partial(parse_sentence, names=declared))
        used = {tag for sentence in sentences for tag in sentence.tags}
        names = like.names if like is not None else _names(declared, used)
        strange = sorted(used - set(names))
        notes = [f"tags that the training data lack are never predicted: {listing(strange)}"] if strange else []
        return Rows(
            rows=tuple(sentences), names=names, options=self,
            report=said(records.report, num_empty=num_empty, notes=notes),
        )  # fmt: skip

    def load(self, base_dir: Path, examples: Rows[TaggedWords], settings: TrainingSettings) -> TaskModel:
        """Put a layer for the tags on the base's body; see `Task.load`."""
        from coldfuse.training.tasks.models import body_of, collate, load_model, takes_types

        loaded = load_model(base_dir, "AutoModelForTokenClassification", settings, num_labels=len(examples.names))
        loaded.processor.require_offsets()
        loaded.body = body_of(loaded.model)
        loaded.notes = {"labels": json.dumps(list(examples.names))}
        fillers = {"input_ids": loaded.processor.filler, "labels": NO_LABEL}
        if takes_types(loaded.model, loaded.processor.intake):
            fillers["token_type_ids"] = 0
        loaded.collate = partial(collate, fillers=fillers, pad_to=loaded.processor.intake.pad_to)
        return loaded

    def encode(self, loaded: TaskModel, examples: Rows[TaggedWords]) -> list[Feature]:
        """Tokenise sentences, and put each word's tag on its first token; see `Task.encode`."""
        number = {name: place for place, name in enumerate(examples.names)}
        features: list[Feature] = []
        pieces = align(
            loaded.processor.tokenizer, [sentence.words for sentence in examples.rows],
            size=loaded.processor.intake.max_length,
        )  # fmt: skip
        for piece in pieces:
            tags = examples.rows[piece["example"]].tags
            labels = [NO_LABEL if word == NO_LABEL else number.get(tags[word], NO_LABEL) for word in piece["words"]]
            if any(label != NO_LABEL for label in labels):
                features.append({**piece, "labels": labels})
        loaded.processor.require_rows(max((max(f["input_ids"]) for f in features), default=0))  # type: ignore[call-overload]
        return require_some(features, "no word of the sentences is a token to this tokenizer")

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Make the layer the linear probe of the body's token features; see `Task.start_head`."""
        from coldfuse.training.tasks.probing import probe_tokens

        probe_tokens(loaded, features, num_tags=len(json.loads(loaded.notes["labels"])))

    def score(self, loaded: TaskModel, examples: Rows[TaggedWords], features: Sequence[Feature]) -> float:
        """Return the F1 of entities by seqeval's rules; a word that no token stands for is O; see `Task.score`."""
        from coldfuse.training.tasks.scoring import run_over

        nothing = OUTSIDE if OUTSIDE in examples.names else ""
        predicted = [[nothing] * len(sentence.words) for sentence in examples.rows]
        for indices, _, output in run_over(loaded, features):
            for index, numbers in zip(indices, output.logits.argmax(-1).tolist(), strict=True):
                feature: Any = features[index]
                for word, tag in zip(feature["words"], numbers, strict=False):  # padding has no word
                    if word != NO_LABEL:
                        predicted[feature["example"]][word] = examples.names[tag]
        return entity_f1([sentence.tags for sentence in examples.rows], predicted)


def _names(declared: Sequence[str], used: set[str]) -> tuple[str, ...]:
    """Return the names of all tags: as declared, or those that are used, in sorted order."""
    if strange := sorted(used - set(declared)) if declared else []:
        raise UserInputError(
            f"tag {quoted(strange[0])} is not one of the {len(declared)} that are declared; expected "
            f"{listing(declared)}, or their numbers from 0"
        )
    if len(used) < 2:
        raise UserInputError("every word has the same tag, expected two tags or more; name the column of the tags with "
                             "--column tags=NAME")  # fmt: skip
    if len(used) > _MOST_TAGS:
        raise UserInputError(
            f"the words have {len(used):,} different tags, which looks like free text; name the column of the tags "
            "with --column tags=NAME"
        )
    if all(tag.isdecimal() for tag in used) and not declared:
        raise UserInputError(
            "tags are numbers, and nothing says what they mean, so that no entity can be told; name them in their "
            "order: --task 'token-classification(tag_names=O B-PER I-PER ...)'"
        )
    return tuple(declared) or tuple(sorted(used))
