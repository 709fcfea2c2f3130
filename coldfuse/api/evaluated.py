"""What `coldfuse.evaluate` returns: the values of an evaluation, with ways to look at them."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from coldfuse.core.serialization import decode
from coldfuse.durable import explained, write_whole
from coldfuse.evaluation.table import as_table
from coldfuse.evaluation.values import Evaluation
from coldfuse.extras import requiring

_MOST_BYTES = 64 << 20


class EvaluationResult(Evaluation):
    """Scores of models on data sets, and which of them is better than the first. Printed it is a table."""

    def __str__(self) -> str:
        """Return the table of scores, and what the paired tests say."""
        return "\n".join(as_table(self))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def as_json(self) -> str:
        """Return the evaluation as JSON, as `coldfuse evaluate --json` prints it."""
        return self.model_dump_json(indent=2)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON to a file, whole or not at all. Raises `UserInputError` where it cannot be written."""
        write_whole(Path(path), f"{self.as_json()}\n".encode())

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the scores into a file: PNG, SVG or PDF.

        Raises:
            UserInputError: The ending is that of no picture, or the file cannot be written.
            MissingExtraError: matplotlib is not installed.
        """
        from coldfuse.evaluation.plot import draw_evaluation, require_picture  # noqa: PLC0415 - matplotlib

        require_picture(Path(path))
        with requiring("EvaluationResult.plot", "evaluate"):
            draw_evaluation(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EvaluationResult:
        """Read what `save` wrote.

        Raises:
            UserInputError: The file cannot be read.
            CodecError: It is no evaluation.
        """
        with explained(Path(path), "read"):
            data = Path(path).read_bytes()
        return decode(cls, data, what=os.fspath(path), limit=_MOST_BYTES)
