"""Words and their tags: how they lie in files, which token stands for a word, and the entities that tags name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldfuse.core.words import plural
from coldfuse.training.tasks.rows import NO_LABEL, as_list
from coldfuse.training.tasks.task import Feature

OUTSIDE = "O"
"""Tag of a word that is part of no entity."""

_CHUNK = re.compile(r"[BIESLU]-.+")


@dataclass(frozen=True, kw_only=True)
class TaggedWords:
    """One sentence: its words, and the tag of each."""

    words: tuple[str, ...]
    """Words in their order."""
    tags: tuple[str, ...]
    """Tag of each word."""


def parse_sentence(row: Mapping[str, object], names: Sequence[str] = ()) -> Iterator[TaggedWords]:
    """Yield a row's words and tags: lists, lists as text, or words with spaces between; nothing for no words.

    Args:
        row: Cells of the roles `tokens` and `tags`.
        names: Names of tags that are numbers.

    Raises:
        ValueError: What is wrong; never what the row holds.
    """
    words, tags = _split(row.get("tokens")), _split(row.get("tags"))
    if words is None or tags is None:
        raise ValueError(
            f"expected a list of {'words' if words is None else 'tags'}, or text with spaces between them, got "
            f"{type(row.get('tokens' if words is None else 'tags')).__name__}"
        )
    if len(words) != len(tags):
        raise ValueError(f"{plural(len(words), 'word')} with {plural(len(tags), 'tag')}; every word needs one tag")
    if words:
        yield TaggedWords(words=tuple(map(str, words)), tags=tuple(_named(tag, names) for tag in tags))


def _split(cell: object) -> list[Any] | None:
    found = as_list(cell)
    return cell.split() if found is None and isinstance(cell, str) else found


def _named(tag: object, names: Sequence[str]) -> str:
    """Return a tag as text; a number is the place of its name, where tags have names."""
    text = str(tag).strip()
    if not text or isinstance(tag, float | bool | type(None)):
        raise ValueError("a tag is empty or no name; tags are text such as O and B-PER, or whole numbers with names")
    if names and text not in names and text.isdecimal():
        if int(text) >= len(names):
            raise ValueError(f"a tag is number {int(text)}, and there are {plural(len(names), 'name')} of tags")
        return names[int(text)]
    return text


def align(tokenizer: Any, sentences: Sequence[Sequence[str]], *, size: int) -> list[dict[str, Any]]:
    """Return the tokens of each sentence, in pieces of at most `size`, with the word that each piece's tokens begin.

    A sentence is read as text, its words with spaces between, so that tokens are those of pretraining. The first token
    of a word stands for it, in one piece of the sentence alone; `words` has its number there, and -100 elsewhere.

    Args:
        tokenizer: A tokenizer that tells where in the text each token stands.
        sentences: Words of each.
        size: Tokens of a piece, special ones too.
    """
    texts = [" ".join(words) for words in sentences]
    encoded = tokenizer(
        texts, truncation=True, max_length=size, stride=0, return_overflowing_tokens=True, return_offsets_mapping=True,
        return_attention_mask=False, return_special_tokens_mask=True,
    )  # fmt: skip
    pieces: list[dict[str, Any]] = []
    seen: tuple[int, set[int]] = (-1, set())
    for piece, number in enumerate(encoded["overflow_to_sample_mapping"]):
        if seen[0] != number:
            seen = (number, set())
            owner = _owners(sentences[number])
        words: list[int] = []
        special = encoded["special_tokens_mask"][piece]
        for (start, end), is_special in zip(encoded["offset_mapping"][piece], special, strict=True):
            word = None if is_special else next((w for w in owner[start:end] if w is not None), None)
            words.append(NO_LABEL if word is None or word in seen[1] else word)
            if word is not None:
                seen[1].add(word)
        feature = {"input_ids": encoded["input_ids"][piece], "words": words, "example": number}
        if "token_type_ids" in encoded:
            feature["token_type_ids"] = encoded["token_type_ids"][piece]
        pieces.append(feature | {"length": len(words)})
    return pieces


def _owners(words: Sequence[str]) -> list[int | None]:
    """Return, for every character of the joined words, the number of its word; None for the spaces between."""
    owner: list[int | None] = []
    for number, word in enumerate(words):
        owner += [None] * bool(number) + [None if char.isspace() else number for char in word]
    return owner


def label_pieces(pieces: Sequence[Mapping[str, Any]], tags: Sequence[Sequence[int]]) -> list[Feature]:
    """Return the pieces with labels: a word's tag at its first token, -100 at every other."""
    return [
        {**piece, "labels": [word if word == NO_LABEL else tags[piece["example"]][word] for word in piece["words"]]}
        for piece in pieces
    ]


def entity_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Return the micro-averaged F1 of entities, by seqeval's rules (those of conlleval).

    Where tags are not in chunks (no B- and I-, as parts of speech), every word that is not O counts as an entity.

    >>> entity_f1([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]]), entity_f1([["NOUN", "VERB"]], [["NOUN", "NOUN"]])
    (0.0, 0.5)
    """
    from seqeval.metrics import f1_score

    if not in_chunks({tag for sentence in gold for tag in sentence}):
        gold, predicted = ([_as_chunks(sentence) for sentence in tags] for tags in (gold, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no entity at all: the score is 0
        return float(f1_score(list(map(list, gold)), list(map(list, predicted))))


def in_chunks(tags: set[str]) -> bool:
    """Tell whether tags name parts of entities (B-PER, I-PER) rather than stand for themselves.

    >>> in_chunks({"O", "B-PER"}), in_chunks({"NOUN", "O"})
    (True, False)
    """
    return all(tag == OUTSIDE or _CHUNK.fullmatch(tag) for tag in tags)


def _as_chunks(tags: Sequence[str]) -> list[str]:
    return [tag if tag == OUTSIDE else f"B-{tag}" for tag in tags]
