"""Rows by role, from every kind of source."""

import json
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from coldfuse.data.records import Records, Role, read_records
from coldfuse.data.tables import FileFormat
from coldfuse.errors import UserInputError
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.task import DataRequest

TEXT = Role("text", ("text", "content"))
LABEL = Role("label", ("label", "class"), is_required=False)
TOKENS = (Role("tokens", ("tokens", "words")), Role("tags", ("tags", "ner_tags")))
IMAGES = (Role("image", ("image", "img")), Role("label", ("label",), is_required=False))
SENTENCES = [{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}, {"tokens": ["Peter"], "tags": ["B-PER"]}]


def rows_of(data, *roles, **options):
    return [dict(row) for row in read_records(data, roles, **options).rows]


def test_text_files_are_documents_where_texts_alone_are_needed(tmp_path):
    for name, content in (("b.txt", "hello\nworld\n"), ("a.txt", "\ufeffhé"), ("c.txt", " \n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    records = read_records(tmp_path, [TEXT])
    assert [dict(row) for row in records.rows] == [{"text": "hé"}, {"text": "hello\nworld\n"}]
    assert "left out 1 without text" in records.report.lines()[0]
    assert rows_of(str(tmp_path / "[ab].txt"), TEXT) == [dict(row) for row in records.rows]
    by_line = rows_of(tmp_path / "b.txt", TEXT, file_format=FileFormat(documents="line"))
    assert by_line == [{"text": "hello"}, {"text": "world"}]


def test_beside_a_label_a_text_file_is_a_table(tmp_path):
    (tmp_path / "a.txt").write_text("text,label\none,x\n")
    assert rows_of(tmp_path / "a.txt", TEXT, LABEL) == [{"text": "one", "label": "x"}]
    with pytest.raises(UserInputError, match="is a folder without a data file"):
        read_records(tmp_path, [TEXT, LABEL])


def test_options_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,x\n")
    (tmp_path / "a.txt").write_text("one")
    lines, commas = FileFormat(documents="line"), FileFormat(separator=",")
    for data, file_format, option in (
        ("a.csv", lines, "--documents is for plain text"),
        ("a.txt", commas, "--separator is for text files"),
        ("sqlite:///a.db?query=SELECT 1", commas, "--separator is for text files, and this is a database"),
        ("hf://org/name", lines, "--documents is for plain text"),
        ("a.txt", FileFormat(documents="page"), "expected file or line"),
    ):
        with pytest.raises(UserInputError, match=option):
            read_records(data if ":" in data else tmp_path / data, [TEXT], file_format=file_format)


def test_a_drive_is_no_address():
    with pytest.raises(UserInputError, match="no such file or folder"):
        read_records("C:/data/a.csv", [TEXT])


def test_patterns_reach_into_folders_and_name_files_only(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.md").write_text("one")
    (tmp_path / "in" / "deep" / "b.md").write_text("two")
    assert rows_of(str(tmp_path / "**" / "*.md"), TEXT) == [{"text": "one"}, {"text": "two"}]
    with pytest.raises(UserInputError, match="no such file or folder"):
        read_records(str(tmp_path / "*.rst"), [TEXT])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", "-DOCSTART- -X- O O\n\nEU NNP I B-ORG\nrejects VBZ I O\n\nPeter NNP I B-PER\n"),
        ("a.txt", "# id = 1\nEU\tB-ORG\nrejects\tO\n\n# id = 2\nPeter\tB-PER\n"),
        ("a.tsv", "EU\tB-ORG\r\nrejects\tO\r\n\r\nPeter\tB-PER\r\n"),
        ("a.jsonl", "\n".join(map(json.dumps, SENTENCES))),
    ],
)
def test_tokens_and_tags_are_read_from_files_of_a_token_a_line_and_from_lists(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert rows_of(tmp_path / name, *TOKENS) == SENTENCES


def test_sentences_with_odd_lines_are_refused_with_their_line(tmp_path):
    (tmp_path / "a.conll").write_text("EU B-ORG\nrejects\n")
    with pytest.raises(UserInputError, match="line 2 has 1 cells, and the line before it 2"):
        read_records(tmp_path / "a.conll", TOKENS)
    (tmp_path / "a.conll").write_text("EU\nrejects\n")
    with pytest.raises(UserInputError, match="no tags behind the tokens"):
        read_records(tmp_path / "a.conll", TOKENS)


def test_a_file_of_universal_dependencies_has_its_own_columns(tmp_path):
    rows = [
        "1-2\tdel\t" + "\t".join("_" * 8),
        "1\tde\tde\tADP\t_\t_\t0\troot\t_\t_",
        "2\tel\tel\tDET\t_\t_\t1\tdet\t_\t_",
    ]
    (tmp_path / "a.conllu").write_text("# text = del\n" + "\n".join(rows) + "\n")
    roles = (TOKENS[0], Role("tags", ("tags", "pos_tags")))
    assert rows_of(tmp_path / "a.conllu", *roles) == [{"tokens": ["de", "el"], "tags": ["ADP", "DET"]}]
    (tmp_path / "b.bio").write_text("EU\tO\nrejects\t\n")
    with pytest.raises(UserInputError, match="line 2 has an empty cell"):
        read_records(tmp_path / "b.bio", TOKENS)


@pytest.mark.parametrize("deep", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900])
def test_values_that_lie_deep_in_each_other_are_refused_or_not_found(tmp_path, deep):
    (tmp_path / "a.jsonl").write_text(f'{{"text": {deep}}}\n' * 2)
    with pytest.raises(UserInputError, match=r"lie in each other|is not JSON"):
        read_records(tmp_path / "a.jsonl", [TEXT])
    with pytest.raises(UserInputError, match=r"no row has all|no column|is not JSON|lie in each other"):
        read_records(tmp_path / "a.jsonl", [TEXT], columns={"text": "text.a"})


NESTED = [{"id": n, "data": {"body": f"text {n}", "parts": [{"name": "x"}, {"name": "y"}]}} for n in range(3)]


def test_columns_inside_of_others_are_read_by_their_path(tmp_path):
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    lines.write_text("\n".join(map(json.dumps, NESTED)))
    parquet.write_table(pa.Table.from_pylist(NESTED), table)
    for path in (lines, table):
        assert rows_of(path, TEXT, columns={"text": "data.body"}) == [{"text": f"text {n}"} for n in range(3)]
        assert rows_of(path, TEXT, columns={"text": "data.parts.name"}) == [{"text": ["x", "y"]}] * 3
        with pytest.raises(
            UserInputError, match=r"no column 'data.text'; its columns are id, data, and inside of them data.body"
        ):
            read_records(path, [TEXT], columns={"text": "data.text"})


def test_lists_of_structs_come_as_they_are(tmp_path):
    messages = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]] * 2
    parquet.write_table(pa.table({"messages": messages}), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet", Role("messages", ("messages",))) == [{"messages": messages[0]}] * 2


def test_no_column_has_two_roles_and_unknown_roles_and_columns_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("content,kind\na,b\n")
    pair = Role("text_pair", ("content",), is_required=False)
    assert rows_of(tmp_path / "a.csv", TEXT, pair) == [{"text": "a"}]
    for columns, says in (
        ({"text": "kind", "label": "kind"}, "cannot be text, label at once"),
        ({"text": "body"}, "no column 'body'; its columns are content, kind"),
        ({"image": "kind"}, r"--column image=…: this task reads no image; it reads text, label"),
    ):
        with pytest.raises(UserInputError, match=says):
            read_records(tmp_path / "a.csv", [TEXT, LABEL], columns=columns)
    with pytest.raises(
        UserInputError, match=r"cannot tell which column holds the summary; name it with --column goal="
    ):
        read_records(tmp_path / "a.csv", [Role("goal", ("summary",), what="summary")])


def test_rows_without_what_is_required_are_left_out_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": " "}\n{"label": 1}\n{"text": "b\\u0000", "label": 2}\n')
    records = read_records(tmp_path / "a.jsonl", [TEXT, LABEL])
    assert [dict(row) for row in records.rows] == [{"text": "a", "label": None}, {"text": "b\ufffd", "label": 2}]
    assert records.report.missing == {"text": 2}
    assert records.place(1).endswith("a.jsonl, line 4")
    assert "1 text with characters that are none" in records.report.lines()[1]
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": null}\n')
    with pytest.raises(UserInputError, match="no row has all of text"):
        read_records(tmp_path / "a.jsonl", [TEXT])


def test_a_limit_ends_the_reading_and_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("text\none\n\n\ntwo\nthree\n")
    (tmp_path / "b.csv").write_text("broken")
    records = read_records([tmp_path / "a.csv", tmp_path / "b.csv"], [TEXT], limit=2)
    assert [row["text"] for row in records.rows] == ["one", "two"]
    assert "no more than 2 examples were asked for" in records.report.lines()[-1]
    with pytest.raises(UserInputError, match="--max-examples 0"):
        read_records(tmp_path / "a.csv", [TEXT], limit=0)


def test_a_digest_sees_every_value_and_parts_keep_their_order():
    made = Records(columns={"text": ["a", "b"], "raw": [b"x", b"y"]})
    assert dict(made.take([1]).rows[0]) == {"text": "b", "raw": b"y"}
    others = [
        made.take([1, 0]), made.take([0]), Records(columns={"text": ["a", "b"], "raw": [b"x", b"z"]}),
        Records(columns=made.columns, class_names={"label": ("a",)}), Records(columns={"text": ["a", "b"]}),
    ]  # fmt: skip
    assert len({records.digest() for records in [made, *others]}) == 6
    assert made.digest() == made.take([0, 1]).digest()
    assert "'a'" not in repr(made)


@pytest.mark.parametrize("declared", [lambda of: {"feature": of, "_type": "Sequence"}, lambda of: [of]])
def test_names_of_tags_that_are_numbers_are_found_in_lists(tmp_path, declared):
    label = {"names": ["O", "B-PER"], "_type": "ClassLabel"}
    note = {"info": {"features": {"ner_tags": declared(label), "id": {"dtype": "string", "_type": "Value"}}}}
    rows = pa.table({"tokens": [["Peter", "sleeps"]], "ner_tags": [[1, 0]]})
    parquet.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(note)}), tmp_path / "a.parquet")
    assert read_records(tmp_path / "a.parquet", TOKENS).class_names == {"tags": ("O", "B-PER")}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a picture")
    return {"bytes": None, "path": str(path)}


def test_folders_of_classes_and_lists_of_files_are_tables_of_pictures(tmp_path):
    cat, dog = picture(tmp_path / "in" / "cat" / "1.PNG"), picture(tmp_path / "in" / "dog" / "2.jpg")
    (tmp_path / "in" / "dog" / "notes.doc").write_text("x")
    records = read_records(tmp_path / "in", IMAGES)
    assert [dict(row) for row in records.rows] == [{"image": cat, "label": "cat"}, {"image": dog, "label": "dog"}]
    assert "1 file or folders that are no images were not read" in records.report.lines()[1]
    listed = picture(tmp_path / "list" / "a" / "1.png")
    (tmp_path / "list" / "metadata.csv").write_text("file_name,text\na/1.png,a cat\n")
    roles = (IMAGES[0], TEXT)
    assert rows_of(tmp_path / "list", *roles) == [{"image": listed, "text": "a cat"}]
    (tmp_path / "list" / "metadata.csv").write_text("file_name,text\n../in/cat/1.PNG,a cat\n")
    with pytest.raises(UserInputError, match="its file_name is no file of the folder"):
        read_records(tmp_path / "list", roles)


def test_folders_of_pictures_in_which_classes_cannot_be_told_are_refused(tmp_path):
    picture(tmp_path / "parts" / "train" / "1.png")
    picture(tmp_path / "parts" / "test" / "1.png")
    with pytest.raises(UserInputError, match="holds the parts of a data set, and no classes; name the folder of one"):
        read_records(tmp_path / "parts", IMAGES)
    picture(tmp_path / "stored" / "preview.png")
    parquet.write_table(pa.table({"image": [b"x"], "label": ["cat"]}), tmp_path / "stored" / "a.parquet")
    assert rows_of(tmp_path / "stored", *IMAGES) == [{"image": b"x", "label": "cat"}]
    picture(tmp_path / "both" / "cat" / "1.png")
    picture(tmp_path / "both" / "2.png")
    with pytest.raises(UserInputError, match="holds files beside folders of classes"):
        read_records(tmp_path / "both", IMAGES)


def test_what_datasets_saved_is_read_as_it_says(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 1]}, features=features)
    made.filter(lambda row: row["text"] != "b").save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "cache-0123.arrow").write_bytes(
        (tmp_path / "saved" / "data-00000-of-00001.arrow").read_bytes()
    )
    records = read_records(tmp_path / "saved", [TEXT, LABEL])
    assert [dict(row) for row in records.rows] == [{"text": "a", "label": 0}, {"text": "c", "label": 1}]
    assert records.class_names == {"label": ("no", "yes")}
    datasets.DatasetDict(train=made, test=made).save_to_disk(tmp_path / "parts")
    with pytest.raises(UserInputError, match="holds a data set in parts; name the folder of one: test, train"):
        read_records(tmp_path / "parts", [TEXT])
    assert len(read_records(tmp_path / "parts" / "train", [TEXT])) == 3


def test_decimal_numbers_of_a_table_are_numbers_and_classes(tmp_path):
    texts = [f"number {n}" for n in range(9)]
    for name, values in {"scores": ["0.5", "1.25", "2.00"], "classes": ["0", "1", "2"]}.items():
        labels = [Decimal(values[n % 3]) for n in range(9)]
        parquet.write_table(pa.table({"text": texts, "label": labels}), tmp_path / f"{name}.parquet")
    numbers = read_records(tmp_path / "scores.parquet", [Role("label", ("label",))]).columns["label"]
    assert numbers[:3] == [0.5, 1.25, 2]
    assert find_task("regression").read(DataRequest(data=tmp_path / "scores.parquet")).bounds == (0.5, 2.0)
    classes = find_task("text-classification").read(DataRequest(data=tmp_path / "classes.parquet"))
    assert classes.label_names == ("0", "1", "2")


def test_a_whole_number_beyond_all_floats_is_no_number_to_learn(tmp_path):
    (tmp_path / "data.jsonl").write_text("".join(f'{{"text": "a", "label": {n}{"0" * 400}}}\n' for n in range(1, 9)))
    with pytest.raises(UserInputError, match="line 1: its label is no number"):
        find_task("regression").read(DataRequest(data=tmp_path / "data.jsonl"))
