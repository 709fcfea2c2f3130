"""Documents to blocks of tokens: whole text, piece by piece, so that nothing of a long document is left out.

Tokens lie in one array of four bytes each, and a block is made a feature only when it is asked for: a private corpus of
a billion tokens needs 4 GB, where Python's own numbers would need 36.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from coldfuse.training.tasks.task import Feature

_DOCUMENTS_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Blocks(Sequence[Feature]):
    """Blocks of tokens as features: `input_ids` and `length`."""

    tokens: NDArray[np.int32]
    """All tokens, one document after the other."""
    spans: Sequence[tuple[int, int]]
    """First token of each block, and the one behind its last."""
    before: Sequence[int] = ()
    """Tokens put before every block, such as [CLS]."""
    after: Sequence[int] = ()
    """Tokens put after every block, such as [SEP]."""

    def take(self, indices: Sequence[int]) -> Blocks:
        """Return the blocks at `indices`, in that order."""
        return replace(self, spans=[self.spans[index] for index in indices])

    def at_least(self, length: int) -> Blocks:
        """Return the blocks of so many tokens of their own or more."""
        return replace(self, spans=[(first, end) for first, end in self.spans if end - first >= length])

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.spans)

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> list[Feature]: ...
    def __getitem__(self, index: int | slice) -> Feature | list[Feature]:
        """Return one block, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        first, end = self.spans[index]
        ids = [*self.before, *self.tokens[first:end].tolist(), *self.after]
        return {"input_ids": ids, "length": len(ids)}


def tokenize_documents(tokenizer: Any, texts: Sequence[str], *, special: bool) -> Iterator[list[int]]:
    """Yield the tokens of each document, of any length; with `special`, those that the tokenizer itself adds too."""
    for start in range(0, len(texts), _DOCUMENTS_AT_ONCE):
        some = list(texts[start : start + _DOCUMENTS_AT_ONCE])
        encoded = tokenizer(some, add_special_tokens=special, return_attention_mask=False, verbose=False)
        yield from encoded["input_ids"]


def surroundings(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text."""
    [plain] = tokenize_documents(tokenizer, ["a"], special=False)
    [whole] = tokenize_documents(tokenizer, ["a"], special=True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return list(whole[:start]), list(whole[start + len(plain) :])
    return [], []


def cut(first: int, end: int, *, size: int, overlap: int = 0) -> list[tuple[int, int]]:
    """Cut the tokens from `first` to `end` into blocks of `size`, each beginning with the last `overlap` of another.

    With an overlap of 1, every token but the very first is predicted from those before it in exactly one block.

    >>> cut(0, 7, size=3), cut(0, 5, size=3, overlap=1), cut(0, 4, size=3, overlap=1), cut(2, 2, size=3)
    ([(0, 3), (3, 6), (6, 7)], [(0, 3), (2, 5)], [(0, 3), (2, 4)], [])
    """
    last = max(end - overlap, first + 1) if end > first else first
    return [(start, min(start + size, end)) for start in range(first, last, size - overlap)]


def blocks_of(passages: Iterable[tuple[Sequence[int], bool]], *, size: int, packed: bool, overlap: int = 0) -> Blocks:
    """Lay passages one behind the other and cut them into blocks.

    Args:
        passages: Tokens of each, and whether a document begins with it.
        size: Tokens of a block, at most.
        packed: True for blocks that reach over the ends of documents, so that only the last is shorter; False to begin
            a block with every document.
        overlap: Tokens that a block repeats of the one before it.
    """
    parts: list[NDArray[np.int32]] = []
    starts: list[int] = []
    end = 0
    for tokens, begins in passages:
        if not tokens:
            continue
        if not parts or (begins and not packed):
            starts.append(end)
        parts.append(np.asarray(tokens, np.int32))
        end += len(tokens)
    spans = [
        span for first, behind in pairwise([*starts, end]) for span in cut(first, behind, size=size, overlap=overlap)
    ]
    return Blocks(tokens=np.concatenate(parts) if parts else np.empty(0, np.int32), spans=spans)
