import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from coldfuse.data.reading import read_dataset, read_texts
from coldfuse.errors import UserInputError

ROWS = [("a good film", "pos"), ("a bad film", "neg"), ('said "no", twice', "neg"), ("two\nlines", "pos")] * 3


def write_csv(path, header="text,label", rows=ROWS, separator=",", encoding="utf-8"):
    quoted = [separator.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    content = "\n".join([header.replace(",", separator), *quoted]) + "\n"
    path.write_bytes(gzip.compress(content.encode(encoding)) if path.suffix == ".gz" else content.encode(encoding))
    return path


def write_json_lines(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def write_parquet(path, columns, metadata=None):
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.tsv", {"separator": "\t"}),
        ("with.dots.CSV.gz", {"encoding": "utf-8-sig"}),
        ("usual.csv", {"header": "Sentence,INTENT"}),
    ],
)
def test_text_tables_are_read_with_quotes_and_line_breaks(tmp_path, name, options):
    dataset = read_dataset(write_csv(tmp_path / name, **options))
    assert dataset.texts == tuple(text for text, _ in ROWS)
    assert dataset.label_names == ("neg", "pos")
    assert dataset.labels[:4] == (1, 0, 0, 1)
    assert dataset.num_dropped == 0


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz", "array.json"])
def test_json_is_read_line_by_line_or_as_an_array(tmp_path, name):
    rows = [{"text": text + "\u2028", "label": label} for text, label in ROWS]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    content = json.dumps(rows) if name == "array.json" else lines
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    assert read_dataset(path).texts == tuple(row["text"] for row in rows)


def test_parquet_names_its_classes(tmp_path):
    features = {"label": {"names": ["no", "yes", "maybe"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    columns = {"text": ["a", "b"] * 5, "label": [0, 2] * 4 + [0, -1]}
    dataset = read_dataset(write_parquet(tmp_path / "a.parquet", columns, metadata))
    assert dataset.label_names == ("no", "yes", "maybe")
    assert dataset.labels == (0, 2, 0, 2, 0, 2, 0, 2, 0)
    assert dataset.num_dropped == 1


def test_a_card_beside_the_file_names_the_classes(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps({"label_names": ["zero", "one"]}))
    path = write_csv(tmp_path / "a.csv", rows=[("a", "1"), ("b", "0")] * 4)
    assert read_dataset(path).label_names == ("zero", "one")
    assert read_dataset(path).labels[:2] == (1, 0)


@pytest.mark.parametrize(
    ("labels", "names", "first"),
    [
        (["10", "9"], ("9", "10"), 1),
        (["-1", "1"], ("-1", "1"), 0),
        (["1.0", "0.0"], ("0", "1"), 1),
        (["true", "false"], ("false", "true"), 1),
        (["7", "seven"], ("7", "seven"), 0),
    ],
)
def test_labels_without_names_are_sorted(tmp_path, labels, names, first):
    dataset = read_dataset(write_csv(tmp_path / "a.csv", rows=[("x", label) for label in labels * 4]))
    assert (dataset.label_names, dataset.labels[0]) == (names, first)


@pytest.mark.parametrize("labels", [[True, False], [1.0, 0.0]])
def test_typed_labels_are_classes_when_they_are_whole(tmp_path, labels):
    path = write_parquet(tmp_path / "a.parquet", {"text": ["x"] * 8, "label": labels * 4})
    assert read_dataset(path).num_classes == 2


def test_rows_without_text_or_label_are_dropped_and_counted(tmp_path):
    rows = [{"text": text, "label": label} for text, label in ROWS]
    rows += [{"text": None, "label": "pos"}, {"text": "  ", "label": "pos"}, {"text": "x"}, {"text": "x", "label": ""}]
    dataset = read_dataset(write_json_lines(tmp_path / "a.jsonl", rows))
    assert (len(dataset), dataset.num_dropped) == (12, 4)


def test_pairs_are_found_unless_they_are_empty(tmp_path):
    rows = [{"question": "q", "passage": "p", "label": index % 2} for index in range(8)]
    assert read_dataset(write_json_lines(tmp_path / "a.jsonl", rows)).text_pairs == ("p",) * 8
    alone = [{"text": "q", "text_pair": None, "label": index % 2} for index in range(8)]
    assert read_dataset(write_json_lines(tmp_path / "b.jsonl", alone)).text_pairs is None


def test_columns_are_those_the_user_names(tmp_path):
    rows = [{"text": "wrong", "left": "l", "right": "r", "label": "x", "mood": index % 2} for index in range(8)]
    path = write_json_lines(tmp_path / "a.jsonl", rows)
    dataset = read_dataset(path, text_column="left", text_pair_column="right", label_column="mood")
    assert (dataset.texts[0], dataset.text_pairs[0], dataset.label_names) == ("l", "r", ("0", "1"))


def test_a_second_file_is_read_with_the_classes_of_the_first(tmp_path):
    path = write_csv(tmp_path / "test.csv", rows=[("x", "pos")])
    dataset = read_dataset(path, label_names=("neg", "neutral", "pos"))
    assert (dataset.labels, dataset.num_classes) == ((2,), 3)
    with pytest.raises(UserInputError, match="label 'pos' is not one of the task's 2 classes"):
        read_dataset(path, label_names=("bad", "good"))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("words,label", ROWS, "cannot tell which column holds the text; name it with --text-column; .* words, label"),
        ("text,colour", ROWS, "cannot tell which column holds the label; name it with --label-column; .* text, colour"),
        ("text,text", ROWS, "two columns have the same name"),
        ("text,label", [("x", "same")] * 9, "every row has the label 'same'"),
        ("text,label", ROWS[:3], "3 rows with text and label .* expected 8 or more"),
        (
            "text,label",
            [(str(i), f"id{i}") for i in range(20)],
            "20 different labels in 20 rows, which looks like free",
        ),
        ("text,label", [("x", "0.5"), ("y", "1.5")] * 5, "labels are decimal numbers"),
        ("text,label", [("x", "")] * 9, "0 rows with text and label"),
        ("text,label", [("x", "y", "secret")] * 9, r"line 2 has 3 cells, expected 2 as in the header \(text, label\)"),
    ],
)
def test_what_cannot_be_a_task_is_refused_in_one_line(tmp_path, header, rows, message):
    with pytest.raises(UserInputError, match=message) as caught:
        read_dataset(write_csv(tmp_path / "a.csv", header=header, rows=rows))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", "cannot tell which column holds the text; .*; its first line must name the columns"),
        ("a.csv", "text,label\né,1\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b"", "cannot be read"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.csv.gz", b"\x1f\x8bnot gzip", "cannot be unpacked"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-4], "cannot be unpacked, is it cut off"),
        ("a.jsonl", b'{"text": 1}\n{oops', "line 2 is not JSON"),
        ("a.jsonl", b"[1, 2]", "row 1 holds a int, expected one JSON object a row"),
        ("a.jsonl", b'{"text": "x", "label": [1]}', "choose another column with --label-column"),
        ("a.jsonl", b'{"text": 5, "label": 1}', "column 'text' holds int instead of text"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserInputError, match=message):
        read_dataset(tmp_path / name)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path):
    with pytest.raises(UserInputError, match="no such file"):
        read_dataset(tmp_path / "absent.csv")
    with pytest.raises(UserInputError, match=r"no column 'body'; its columns are text, label"):
        read_dataset(write_csv(tmp_path / "a.csv"), text_column="body")


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
