import pytest

from coldfuse.data.unlabelled import read_texts
from coldfuse.errors import UserInputError


def test_texts_are_read_without_labels_and_empty_rows_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("number,text\n1,one film\n2,\n3,another\n")
    data = read_texts(tmp_path / "a.csv")
    assert (data.texts, data.text_pairs, data.labels, data.num_dropped) == (("one film", "another"), None, (0, 0), 1)


def test_pairs_are_found_and_columns_may_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("premise,hypothesis,other\na,b,c\n")
    assert read_texts(tmp_path / "a.csv").text_pairs == ("b",)
    named = read_texts(tmp_path / "a.csv", text_column="other", text_pair_column="premise")
    assert (named.texts, named.text_pairs) == (("c",), ("a",))


def test_a_file_without_texts_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n,1\n,2\n")
    with pytest.raises(UserInputError, match="no row has a text in column 'text'"):
        read_texts(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UserInputError, match="name it with --text-column"):
        read_texts(tmp_path / "b.csv")
