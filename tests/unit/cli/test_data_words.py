"""What a user says of data, as what reads them takes it."""

import pytest
import typer

from coldfuse.cli.data_words import columns_of, file_format_of, named_columns
from coldfuse.cli.options.shared import Columns, NodeColumns


def test_columns_are_named_by_role_or_by_options_of_their_own():
    columns = Columns(text_column="body", column=["label = mood", "text_pair=data.title", "text=body"], max_examples=5)
    assert named_columns(columns) == {"text": "body", "label": "mood", "text_pair": "data.title"}
    found = columns_of(columns)
    assert (found["text_column"], found["text_pair_column"], found["label_column"]) == ("body", "data.title", "mood")
    assert found["limit"] == 5
    assert file_format_of(NodeColumns(documents="line", separator=";")).documents == "line"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (Columns(column=["tokens"]), "expected ROLE=NAME"),
        (Columns(column=["=words"]), "expected ROLE=NAME"),
        (Columns(text_column="a", column=["text=b"]), "the column of text is said to be a, too"),
        (Columns(column=["tokens=words"]), "texts with labels are read here"),
    ],
)
def test_what_names_no_column_or_two_is_refused(columns, says):
    with pytest.raises(typer.BadParameter, match=says):
        columns_of(columns)
