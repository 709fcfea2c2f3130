"""Prompts and answers as tokens: for models that go on with a text, that fill gaps, and that classify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coldfuse.errors import UserInputError
from coldfuse.training.tasks.blocks import tokenize_documents
from coldfuse.training.tasks.rows import NO_LABEL

_GAPS = ("[MASK]", "<mask>")
"""Where the answer goes in a prompt, whatever the tokenizer calls its mask."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """What a prompt and an answer become tokens by."""

    tokenizer: Any
    """Tokenizer of the base."""
    before: list[int]
    """Special tokens before a text."""
    after: list[int]
    """Special tokens after it."""
    size: int
    """Tokens that the model reads."""
    classes: dict[str, int]
    """Numbers of a classifier's classes by their names; empty for a language model."""

    def tokens(self, text: str) -> list[int]:
        """Return a text's tokens without special ones."""
        [ids] = tokenize_documents(self.tokenizer, [text], special=False)
        return list(ids)

    def room(self, num_answer: int) -> int:
        """Return how many tokens of a prompt are read beside the answer's."""
        left = self.size - len(self.before) - len(self.after) - num_answer
        if left < 1:
            raise UserInputError(f"an answer has {num_answer} tokens, and the model reads {self.size} with the prompt")
        return left


Ask = Callable[[Asker, str, str], tuple[list[int], list[int]]]
"""ask(asker, prompt, answer): the tokens, and at each place which token it has to predict, or -100."""


@dataclass(frozen=True)
class Way:
    """How a loaded model is asked."""

    asker: Asker
    """What tokens are made by."""
    ask: Ask
    """What makes them."""


def continued(asker: Asker, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Have the answer follow the prompt, as ROME's authors do: it is what differs from the prompt's own tokens."""
    text = prompt
    for gap in _GAPS:
        start, found, rest = text.partition(gap)
        if found and rest.strip(" ."):
            raise UserInputError(f"a prompt goes on after {gap}, and the model reads from left to right; put it last")
        text = start
    text = text.rstrip()
    if not text:
        raise UserInputError("a prompt has nothing before its answer, and the model goes on with a text")
    alone, whole = asker.tokens(text), asker.tokens(f"{text} {answer}")
    same = next((place for place, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), len(alone))
    own = whole[same:]
    ids = [*asker.before, *whole[:same][-asker.room(len(own)) :], *own]
    labels = [NO_LABEL] * len(ids)
    for place in range(max(len(ids) - len(own), 1), len(ids)):
        labels[place - 1] = ids[place]
    return ids, labels


def filled(asker: Asker, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Put as many masks into the gap as the answer has tokens; all are predicted at once."""
    text = prompt
    for gap in _GAPS:
        text = text.replace(gap, _GAPS[0])
    parts = text.split(_GAPS[0])
    if len(parts) > 2:
        raise UserInputError("a prompt has two gaps; ask for one answer in each row")
    left = parts[0].rstrip()
    right = asker.tokens(parts[1] if len(parts) > 1 else ".")
    own = asker.tokens(f" {answer}" if left else answer)
    first = asker.tokens(left) if left else []
    room = asker.room(len(own))
    right = right[: max(room - len(first), room // 2)]
    first = first[max(len(first) - (room - len(right)), 0) :]
    ids = [*asker.before, *first, *[asker.tokenizer.mask_token_id] * len(own), *right, *asker.after]
    labels = [NO_LABEL] * len(ids)
    start = len(asker.before) + len(first)
    labels[start : start + len(own)] = own
    return ids, labels


def classified(asker: Asker, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Have the model say a class of the prompt; the label is its number."""
    if answer not in asker.classes:
        known = ", ".join(sorted(asker.classes)[:8])
        raise UserInputError(f"an answer is no class of the model; its classes are {known[:300]}")
    ids = [*asker.before, *asker.tokens(prompt)[: asker.room(0)], *asker.after]
    return ids, [asker.classes[answer]]
