"""Questions with answers in a text, as SQuAD has them (arXiv 1606.05250, 1806.03822): rows, windows, spans and scores.

The rules of `normalise`, `exact_match` and `overlap_f1` are those of the official scripts: lower case, no punctuation,
no articles, single spaces; of several true answers the best counts; no answer at all is right where there is none.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldfuse.errors import UserInputError
from coldfuse.training.tasks.rows import nested

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a text."""

    question: str
    """What is asked."""
    context: str
    """Text that is to hold the answer."""
    answers: tuple[str, ...]
    """True answers; none where the text does not hold one."""
    starts: tuple[int, ...]
    """Character of the text at which each answer begins."""


def parse_question(row: Mapping[str, object]) -> Iterator[Question]:
    """Yield the questions of a row: one, or those of all paragraphs of an article, as in SQuAD's own files.

    Raises `ValueError` with what is wrong, never with what the row holds.
    """
    paragraphs = nested(row.get("paragraphs"))
    if isinstance(paragraphs, list):
        for paragraph in paragraphs:
            if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
                raise ValueError("expected paragraphs with `context` and `qas`, as in SQuAD's files")
            for asked in paragraph["qas"]:
                if not isinstance(asked, Mapping):
                    raise ValueError("expected questions with `question` and `answers` in `qas`")
                yield _one(asked.get("question"), paragraph.get("context"), asked.get("answers"), None)
        return
    yield _one(row.get("question"), row.get("context"), row.get("answers"), row.get("answer_start"))


def _one(question: object, context: object, answers: object, start: object) -> Question:
    if not isinstance(question, str) or not isinstance(context, str) or not question.strip() or not context.strip():
        lacks = "question" if not isinstance(question, str) or not question.strip() else "context"
        raise ValueError(f"the {lacks} is empty or no text")
    placed = [_place(context, text, at) for text, at in _pairs(nested(answers), start)]
    return Question(
        question=question.strip(), context=context,
        answers=tuple(text for text, _ in placed), starts=tuple(at for _, at in placed),
    )  # fmt: skip


def _pairs(answers: object, start: object) -> list[tuple[object, object]]:
    """Return texts and places of answers in any of the forms that files have."""
    match answers:
        case None | "" | []:
            return []
        case str():
            return [(answers, start)]
        case {"text": list(texts), **rest}:
            starts = rest.get("answer_start")
            if starts is not None and (not isinstance(starts, list) or len(starts) != len(texts)):
                raise ValueError("answers have other numbers of `text` and `answer_start`")
            return list(zip(texts, starts or [None] * len(texts), strict=True))
        case {"text": text, **rest}:
            return [(text, rest.get("answer_start"))]
        case list():
            return _each(answers, nested(start))
        case Mapping() if not answers:
            return []
    raise ValueError(f"answers are {type(answers).__name__}, expected `text` and `answer_start`, or a text")


def _each(answers: list[object], starts: object) -> list[tuple[object, object]]:
    """Return the same of a list of answers, whose places may be a list beside it."""
    if not isinstance(starts, list) or len(starts) != len(answers):
        starts = [None] * len(answers)
    return [pair for each, start in zip(answers, starts, strict=True) for pair in _pairs(each, start)]


def _place(context: str, text: object, start: object) -> tuple[str, int]:
    """Return an answer and where it stands: at the place that is said, or else the one of its places next to it."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("an answer is empty or no text; leave `text` empty ([]) where there is no answer")
    said = _number(start)
    places = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    if not places:
        raise ValueError("an answer does not stand in its context; an extractive answer is a part of the text")
    return text, min(places, key=lambda place: abs(place - said))


def _number(start: object) -> float:
    """Return a place as a number, 0 where nobody says one: pandas writes 3.0, and NaN where there is none."""
    try:
        number = float(start) if isinstance(start, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def make_windows(tokenizer: Any, questions: Sequence[Question], *, size: int, stride: int) -> list[dict[str, Any]]:
    """Return each question with its text, in windows of at most `size` tokens that overlap by `stride`.

    Every window has `start` and `end`, the tokens of the first true answer, or 0 and 0 (the first token) where it lies
    elsewhere; `places` are the characters of the context at which each token stands, None outside of it.
    """
    asked = [_shortened(tokenizer, question.question, size // 2) for question in questions]
    longest = max((len(ids) for ids in tokenizer(asked, add_special_tokens=False)["input_ids"]), default=0)
    room = size - longest - int(tokenizer.num_special_tokens_to_add(pair=True))
    if room < 1:
        raise UserInputError(
            f"{size} tokens leave no room for a text behind its question of {longest}; choose a larger --max-length"
        )
    encoded = tokenizer(
        asked, [question.context for question in questions], truncation="only_second", max_length=size,
        stride=min(stride, room // 2), return_overflowing_tokens=True,
        return_offsets_mapping=True, return_attention_mask=False,
    )  # fmt: skip
    windows: list[dict[str, Any]] = []
    for number, example in enumerate(encoded["overflow_to_sample_mapping"]):
        sequence = encoded.sequence_ids(number)
        offsets = encoded["offset_mapping"][number]
        places = [tuple(place) if of == 1 else None for place, of in zip(offsets, sequence, strict=True)]
        start, end = find_span(places, questions[example])
        window = {
            "input_ids": encoded["input_ids"][number], "places": places, "example": example, "start_positions": start,
            "end_positions": end, "length": len(places),
        }  # fmt: skip
        if "token_type_ids" in encoded:
            window["token_type_ids"] = encoded["token_type_ids"][number]
        windows.append(window)
    return windows


def _shortened(tokenizer: Any, question: str, most: int) -> str:
    """Return a question of at most so many tokens: it must leave room for the text."""
    encoded = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    return question if len(offsets) <= most else question[: offsets[most - 1][1]]


def find_span(places: Sequence[tuple[int, int] | None], question: Question) -> tuple[int, int]:
    """Return first and last token of the first true answer in a window; (0, 0) where it does not lie in it whole.

    >>> question = Question(question="Who?", context="Ada did", answers=("Ada",), starts=(0,))
    >>> find_span([None, (0, 3), (4, 7)], question), find_span([None, (4, 7)], question)
    ((1, 1), (0, 0))
    """
    if not question.answers:
        return 0, 0
    first, behind = question.starts[0], question.starts[0] + len(question.answers[0])
    inside = [i for i, place in enumerate(places) if place and place[0] < behind and place[1] > first]
    known = [place for place in places if place]
    if not inside or known[0][0] > first or known[-1][1] < behind:
        return 0, 0
    return inside[0], inside[-1]


def best_answer(
    windows: Sequence[tuple[Sequence[tuple[int, int] | None], Sequence[float], Sequence[float]]],
    context: str,
    *,
    may_be_none: bool,
    longest: int = 30,
    most: int = 20,
) -> str:
    """Return the likeliest span over all windows of a question, or "" where no answer is likelier.

    Args:
        windows: Places of the tokens, and their logits as start and as end.
        context: The text.
        may_be_none: True where the training has questions without an answer.
        longest: Tokens of an answer, at most.
        most: Number of likeliest starts and ends that are looked at.
    """
    best, answer, nothing = float("-inf"), "", float("inf")
    for places, starts, ends in windows:
        nothing = min(nothing, starts[0] + ends[0])
        inside = [i for i, place in enumerate(places) if place]
        likeliest = [sorted(inside, key=lambda i, of=of: -of[i])[:most] for of in (starts, ends)]  # type: ignore[misc]
        for first in likeliest[0]:
            for last in likeliest[1]:
                if first <= last < first + longest and (score := starts[first] + ends[last]) > best:
                    begin, end = places[first], places[last]
                    best, answer = score, context[begin[0] : end[1]] if begin and end else ""
    return "" if may_be_none and nothing > best else answer.strip()


def normalise(answer: str) -> str:
    """Return an answer without what SQuAD's scripts do not count.

    >>> normalise("The  Eiffel-Tower!")
    'eiffeltower'
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(predicted: str, answers: Sequence[str]) -> float:
    """Return 1 where the prediction is a true answer, else 0."""
    return float(any(normalise(predicted) == normalise(answer) for answer in _true(answers)))


def overlap_f1(predicted: str, answers: Sequence[str]) -> float:
    """Return the best F1 of the words of the prediction and of a true answer.

    >>> overlap_f1("Eiffel tower", ["the Eiffel"]), overlap_f1("", []), overlap_f1("a guess", [])
    (0.6666666666666666, 1.0, 0.0)
    """
    return max(_f1(normalise(predicted).split(), normalise(answer).split()) for answer in _true(answers))


def _true(answers: Sequence[str]) -> Sequence[str]:
    """Return the true answers, as the script does: those with nothing left are none, and none at all is one."""
    return [answer for answer in answers if normalise(answer)] or [""]


def _f1(predicted: Sequence[str], true: Sequence[str]) -> float:
    if not predicted or not true:
        return float(predicted == true)
    same = sum((Counter(predicted) & Counter(true)).values())
    return 2 * same / (len(predicted) + len(true))
