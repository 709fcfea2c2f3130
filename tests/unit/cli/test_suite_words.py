"""What is said of a suite's file advises nothing that the commands which take suites do not have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import coldfuse
from coldfuse.cli.options.evaluator import EvaluatorOptions
from coldfuse.cli.options.operator import Fusing
from coldfuse.cli.suites import in_words_of_suites, read_suites
from coldfuse.errors import UserInputError

PACKAGE = Path(coldfuse.__file__).parent
READS_DATA = (*(PACKAGE / "data").glob("*.py"), *(PACKAGE / "training" / "tasks").glob("*.py"))

OF_NO_FILE = re.compile(
    # what was given and is wrong: a suite gives none of it
    r"^--|; leave --text-encoding|^'--|"
    # a share of what is trained on, which a suite does not set apart, and a note that refuses nothing
    r"--validation|if that is meant, say --text-encoding"
)


def sayings() -> Iterator[str]:
    """Yield every text of the code that reads data in which an option is named; `X` stands for what is filled in."""
    for path in READS_DATA:
        tree = ast.parse(path.read_text())
        within = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
            for part in ast.walk(node) if part is not node
        }  # fmt: skip
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in within | docs:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)


ADVICE = sorted({said for said in sayings() if re.search(r"--[a-z]{2}", said) and not OF_NO_FILE.search(said)})


def test_there_is_advice_to_look_at():
    assert len(ADVICE) > 15


@pytest.mark.parametrize("said", ADVICE)
def test_no_advice_names_an_option_that_suites_do_not_have(said):
    found = in_words_of_suites(said)
    assert "--" not in found
    if "; " in said:  # what is wrong is still said
        assert found.startswith(said.partition("; ")[0])


def test_the_commands_that_take_suites_have_none_of_these_options():
    names = set(EvaluatorOptions.__dataclass_fields__) | set(Fusing.__dataclass_fields__)
    assert not names & {"column", "label_column", "text_column", "text_pair_column", "separator", "text_encoding"}


@pytest.mark.parametrize(
    ("suite", "text", "said"),
    [
        ("mood", "words,mark\nfine,yes\nbad,no\n", "name it 'text' in the file"),
        ("mood", "text,mark\nfine,yes\nbad,no\n", "name it 'label' in the file"),
        ("mood", "text,label\n" + 9 * "fine,yes\n", "name another column 'label' in the file"),
        ("stars:regression", "text,label\nfine,many\nbad,few\n", "name the numbers' column 'label' in the file"),
        ("ner:token-classification", "words,kinds\nfine,O\nbad,O\n", "in the file"),
        ("mood", "words\nfine\nbad\n", "a comma or tab parts them"),
        ("mood", "text,label\nf\xe9in,yes\nbad,no\n", "save it as UTF-8"),
    ],
)  # fmt: skip
def test_a_suite_that_cannot_be_read_says_which_and_what_holds_for_its_file(tmp_path, suite, text, said):
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserInputError) as caught:
        read_suites([f"{suite}={path}"])
    assert str(caught.value).startswith(f"suite {suite.partition(':')[0]}: ")
    assert said in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_name_that_is_no_advice_is_left_as_it_is():
    for said in ("suite a: one example is too few; give NAME=TRAIN,TEST", "a--b.csv: no such file"):
        assert in_words_of_suites(said) == said
