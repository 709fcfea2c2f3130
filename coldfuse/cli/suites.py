"""Suites of examples, as the command line names them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from coldfuse.errors import UserInputError
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite
from coldfuse.evaluation.suites import Suite
from coldfuse.extras import requiring

_LIBRARIES = ("torch", "transformers")

_INSTEAD: tuple[tuple[str, str], ...] = (
    (r"(?:: | with )--column ROLE=NAME, for (.*)", r" in the file as the task does: \1"),
    (r"(?:: | with )--column ROLE=NAME", " in the file as the task does"),
    (r"(?:: | with )--column (\w+)=NAME, or name one column.*", r" '\1' in the file"),  # several at once no suite has
    (r"(?:: | with )--column (\w+)=\w+", r" '\1' in the file"),
    (r" with --text-column or --text-pair-column", " 'text' or 'text_pair' in the file"),
    (r" with --text-pair-column", " 'text_pair' in the file"),
    (r" with --(\w+)-column", r" '\1' in the file"),
    (r"choose another column ('\w+' in the file)", r"name another column \1"),
    (r"name its encoding with --text-encoding .*?, or save it as UTF-8", "save it as UTF-8"),
    (r"say so with --text-encoding [\w-]+", "save it as UTF-8"),
    ("--separator says what stands between them where that is none of the usual", "a comma or tab parts them"),
    (r", or say --documents line", ""),
    (r"--task '([^']*)'", r"NAME:\1=FILE"),
    (r"--task ([a-z0-9-]+)", r"NAME:\1=FILE"),
    ("choose a larger --max-length", "leave long questions out"),
)
"""What is said of options by which other commands read data, and what holds for a suite, which is a name and files."""


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
        return [_read(file) for file in files]


def _read(files: SuiteFiles) -> Suite:
    try:
        return read_named_suite(files)
    except UserInputError as error:
        said, own = in_words_of_suites(str(error)), f"suite {files.name}: "
        raise UserInputError(said if said.startswith(own) else own + said) from error


def in_words_of_suites(said: str) -> str:
    """Return what is said of data with advice that holds for a suite, whose files are read without options.

    >>> in_words_of_suites("a.csv: cannot tell which column holds the label; name it with --label-column; it has x")
    "a.csv: cannot tell which column holds the label; name it 'label' in the file; it has x"
    """
    for option, instead in _INSTEAD:
        said = re.sub(option, instead, said)
    return said
