"""Suites of examples, as the command line names them."""

from __future__ import annotations

from collections.abc import Sequence

from coldfuse.errors import UserInputError
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite
from coldfuse.evaluation.suites import Suite
from coldfuse.extras import requiring

_LIBRARIES = ("torch", "transformers")


def read_suites(given: Sequence[str]) -> list[Suite]:
    """Read suites, each `NAME=FILE`, `NAME=TRAIN,TEST` or `NAME:TASK=FILE`.

    Raises:
        UserInputError: One is none of these, has a name twice, or cannot be read.
        MissingExtraError: What scores a model is not installed.
    """
    with requiring("--suite", "contributor", at_once=_LIBRARIES):
        files = [SuiteFiles.parse(text) for text in given]
        names = [file.name for file in files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserInputError(f"--suite {twice[0]}: is given twice; give each suite a name of its own")
        return [read_named_suite(file) for file in files]
