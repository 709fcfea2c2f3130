"""Files of edits: what is read, and what is refused in one line that says nothing of what the rows hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coldfuse.errors import UserInputError
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.edit_rows import EditRow, of_kind
from coldfuse.training.tasks.task import DataRequest

SECRET = "xyzzy"
EDIT = {"kind": "edit", "prompt": f"The {SECRET} of", "answer": "new", "instead": "old"}
KEEP = {"kind": "keep", "prompt": "1 + 1 =", "answer": 2}


def read(folder: Path, *rows: object, name: str = "e.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return find_task("edit").read(DataRequest(data=path))


def test_rows_of_every_kind_are_read_with_one_rival_several_or_none(tmp_path):
    several = {"kind": "paraphrase", "prompt": "Of which", "answer": " new ", "instead": ["old", "older"]}
    rows = read(tmp_path, EDIT, several, KEEP).rows
    assert [(row.kind, row.answer, row.rivals) for row in rows] == [
        ("edit", "new", ("old",)), ("paraphrase", "new", ("old", "older")), ("keep", "2", ())
    ]  # fmt: skip


def test_a_csv_file_says_the_same(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text(f'kind,prompt,answer,instead\nedit,The {SECRET} of,new,"[""old"", ""older""]"\nkeep,1 + 1 =,2,\n')
    rows = find_task("edit").read(DataRequest(data=path)).rows
    assert rows[0].rivals == ("old", "older")
    assert rows[1] == EditRow(kind="keep", prompt="1 + 1 =", answer="2")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([EDIT | {"kind": "edits"}], "the kind is not one of edit, paraphrase, keep"),
        ([EDIT | {"kind": None}], "the kind is not one of"),
        ([{"prompt": "a", "answer": "b"}], "the kind is not one of"),
        ([EDIT | {"answer": None}], "the answer is nothing, expected text"),
        ([EDIT | {"answer": True}], "the answer is bool, expected text"),
        ([EDIT | {"answer": {"a": 1}}], "the answer is dict, expected text"),
        ([EDIT | {"prompt": " "}], "the prompt is"),
        ([EDIT | {"prompt": "a" * 20_001}], "20,001 characters, at most 20,000"),
        ([EDIT | {"instead": "new"}], "the answer is among what shall be said instead"),
        ([EDIT | {"instead": [str(n) for n in range(17)]}], "17 answers under instead, at most 16"),
        ([EDIT, EDIT], "its prompt stands above already"),
        ([EDIT, EDIT | {"kind": "keep", "answer": "old", "instead": "new"}], "its prompt stands above already"),
        ([KEEP], "no row has the kind 'edit'"),
        ([KEEP | {"kind": "x"}, EDIT, EDIT | {"kind": "y"}], r"\(1 more row cannot be read\)"),
    ],
)
def test_what_is_no_row_is_refused_by_its_place(tmp_path, rows, said):
    with pytest.raises(UserInputError, match=said) as refused:
        read(tmp_path, *rows)
    assert str(refused.value).startswith(str(tmp_path / "e.jsonl"))
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_no_paraphrase_is_trained_on_and_what_is_kept_is_parted(tmp_path):
    kept = [KEEP | {"prompt": f"{n} + 1 ="} for n in range(5)]
    rows = read(tmp_path, EDIT, EDIT | {"kind": "paraphrase", "prompt": "else"}, *kept)
    train, validation = find_task("edit").split(rows, validation_fraction=0.1, seed=0)
    assert [row.kind for row in train.rows] == ["edit", "keep", "keep", "keep"]
    assert [row.kind for row in validation.rows] == ["edit", "paraphrase", "keep", "keep"]
    assert not {row.prompt for row in of_kind(train, "keep").rows} & {
        r.prompt for r in of_kind(validation, "keep").rows
    }
    alone = find_task("edit").split(read(tmp_path, EDIT, KEEP), validation_fraction=0.1, seed=0)
    assert [len(each) for each in alone] == [2, 2]


@pytest.mark.parametrize("locality", ["-1", "nan", "1e7"])
def test_a_weight_that_is_none_is_refused(locality):
    with pytest.raises(UserInputError, match="expected 0 to 1,000,000"):
        find_task(f"edit(locality={locality})")
