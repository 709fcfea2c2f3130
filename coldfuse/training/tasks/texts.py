"""Unlabelled private text: documents from text files, or from a column of texts."""

from __future__ import annotations

from coldfuse.data.records import Role, read_records
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.rows import Rows
from coldfuse.training.tasks.task import DataRequest

_TEXT = Role(
    "text",
    (
        "text", "content", "document", "body", "article", "raw_content", "sentence", "abstract", "summary", "review",
        "comment", "message", "description", "title",
    ),
)  # fmt: skip


def read_texts(request: DataRequest, *, options: object) -> Rows[str]:
    """Read the documents of a request; `options` decide what is made of them.

    Raises `UserInputError` where there is none.
    """
    records = read_records(
        request.data, [_TEXT], columns=request.columns, file_format=request.file_format, limit=request.limit
    )
    texts = [row["text"] for row in records.rows]
    strange = next((index for index, text in enumerate(texts) if not isinstance(text, str)), None)
    if strange is not None:
        raise UserInputError(
            f"{records.place(strange)}: the text is {type(texts[strange]).__name__}, expected text; name another column "
            "with --column text=NAME"
        )
    return Rows(rows=tuple(map(str, texts)), options=options, report=records.report)
