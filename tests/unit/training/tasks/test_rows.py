import dataclasses

import numpy as np
import pytest

from coldfuse.data.records import Records
from coldfuse.errors import UserInputError
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.rows import Rows, as_list, nested, parse_rows
from coldfuse.training.tasks.texts import Passage


def parse(row):
    if row["text"] == "bad":
        raise ValueError("it is bad")
    return [row["text"]] if row["text"] else []


def records(*texts):
    return Records(columns={"text": list(texts)})


def test_rows_without_anything_are_counted_and_wrong_ones_are_said_with_their_place():
    assert parse_rows(records("a", "", "b"), parse) == (["a", "b"], 1)
    with pytest.raises(UserInputError, match=r"^row 2: it is bad \(1 more row cannot be read\)$"):
        parse_rows(records("a", "bad", "bad"), parse)
    with pytest.raises(UserInputError, match="none of 2 rows"):
        parse_rows(records("", ""), parse)


def test_the_digest_covers_rows_their_order_names_and_options():
    task = find_task("text-generation")
    rows = Rows(rows=(Passage(text="a"), Passage(text="b")), options=task, names=("x",))
    others = [
        rows.take([1, 0]),
        rows.take([0]),
        dataclasses.replace(rows, names=("y",)),
        dataclasses.replace(rows, options=find_task("text-generation(packed=no)")),
        dataclasses.replace(rows, rows=(Passage(text="a", ends=False), Passage(text="b"))),
    ]
    assert rows.take([0, 1]).digest() == rows.digest()
    assert len({rows.digest(), *(other.digest() for other in others)}) == 1 + len(others)


def test_private_rows_are_in_no_repr():
    assert "SECRET" not in repr(Rows(rows=("SECRET",), options=None))


@pytest.mark.parametrize("cell", [["a", 1], ("a", 1), '["a", 1]', "['a', 1]", np.array(["a", 1], object)])
def test_lists_are_read_as_files_have_them(cell):
    assert as_list(cell) == ["a", 1]


def test_lists_are_read_as_numpy_prints_them():
    assert as_list("['EU' 'won'\n \"it's\"]") == ["EU", "won", "it's"]
    assert as_list("[1 0\n 12]") == [1, 0, 12]
    assert as_list("[{'a': '}\\n {'}\n {'a': 'b'}]") == [{"a": "}\n {"}, {"a": "b"}]
    assert nested("{'text': array(['Ada', 'so'], dtype=object), 'answer_start': array([0, 4])}") == {
        "text": ["Ada", "so"], "answer_start": [0, 4],
    }  # fmt: skip


@pytest.mark.parametrize("cell", ["a b", "[" * 100_000, "[unclosed", 7, None, {"a": 1}])
def test_what_is_no_list_is_none(cell):
    assert as_list(cell) is None


@pytest.mark.parametrize(
    "line",
    [
        "fill-mask(mask_fraction=0)", "fill-mask(mask_fraction=0.95)", "question-answering(score_by=accuracy)",
        "question-answering(stride=-1)", "instructions(template=mine)", "text2text-generation(score_by=BLEU)",
        "text-generation(packed=perhaps)", "token-classification(tags=3)",
    ],
)  # fmt: skip
def test_options_that_there_are_not_are_refused_in_one_line(line):
    with pytest.raises(UserInputError, match=r"expected|has no option") as caught:
        find_task(line)
    assert "\n" not in str(caught.value)
