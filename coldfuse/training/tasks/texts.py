"""Unlabelled private text: documents from text files, or from a column of texts, in passages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coldfuse.core.words import plural
from coldfuse.data.records import Role
from coldfuse.training.tasks.rows import Rows, parse_rows, read_cells, said
from coldfuse.training.tasks.task import DataRequest

_TEXT = Role(
    "text",
    (
        "text", "content", "document", "body", "article", "raw_content", "sentence", "abstract", "summary", "review",
        "comment", "message", "description", "title",
    ),
)  # fmt: skip
_LONGEST, _SHORTEST = 10_000, 200
"""Characters of the longest and the shortest passage that a document is cut into."""
_ENOUGH = 20
"""Number of passages that there should be, so that some can be set apart for validation."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A document, or a part of a long one: a book in one file is many examples, some of which validate."""

    text: str
    """What is read."""
    begins: bool = True
    """True where the document begins with it."""
    ends: bool = True
    """True where the document ends with it."""


def read_texts(request: DataRequest, *, options: object) -> Rows[Passage]:
    """Read the documents of a request; `options` decide what is made of them.

    Raises `UserInputError` where there is none.
    """
    records = read_cells(request, [_TEXT])
    texts, num_empty = parse_rows(records, _text)
    size = passage_size(sum(map(len, texts)), num_documents=len(texts))
    passages = tuple(passage for text in texts for passage in cut_document(text, size))
    notes = []
    if len(passages) > len(texts):
        notes.append(f"documents longer than {size:,} characters are read in parts: {plural(len(passages), 'passage')}")
    return Rows(rows=passages, options=options, report=said(records.report, num_empty=num_empty, notes=notes))


def _text(row: Mapping[str, object]) -> Iterator[str]:
    text = row["text"]
    if not isinstance(text, str):
        raise ValueError(f"the text is {type(text).__name__}, expected text; name another column: --column text=NAME")
    if text.strip():
        yield text


def passage_size(num_characters: int, *, num_documents: int) -> int:
    """Return the characters of the longest passage: fewer where a short text is all that there is.

    >>> passage_size(10**9, num_documents=1), passage_size(8000, num_documents=1), passage_size(8000, num_documents=50)
    (10000, 400, 10000)
    """
    if num_documents >= _ENOUGH:
        return _LONGEST
    return min(_LONGEST, max(_SHORTEST, num_characters // _ENOUGH))


def cut_document(text: str, size: int) -> Iterator[Passage]:
    """Yield a document in passages of at most `size` characters, that end where a paragraph, a line or a word does.

    >>> [(p.text, p.begins, p.ends) for p in cut_document("One day.\\n\\nThe end.", 12)]
    [('One day.\\n\\n', True, False), ('The end.', False, True)]
    """
    start = 0
    while len(text) - start > size:
        end = _last_break(text, start, start + size)
        yield Passage(text=text[start:end], begins=start == 0, ends=False)
        start = end
    yield Passage(text=text[start:], begins=start == 0)


def _last_break(text: str, start: int, end: int) -> int:
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, start + 1, end)
        if found >= start + (end - start) // 2:
            return found + len(mark) if mark != " " else found  # tokens have their space before them
    return end
