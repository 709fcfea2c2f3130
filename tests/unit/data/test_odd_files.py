"""Every odd file of the corpus is read as it should be, or refused in one line that says why."""

import os
import sys
from collections import Counter
from contextlib import suppress
from io import BytesIO, TextIOWrapper
from threading import Thread

import pytest
from odd_files import CASES
from odd_files.case import FILMS, table

from coldfuse.data import delimited, quotes, sources
from coldfuse.data.reading import read_dataset, read_texts
from coldfuse.data.tables import FileFormat
from coldfuse.errors import UserInputError

READ = {name: odd for name, odd in CASES.items() if odd.rows is not None}
REFUSED = {name: odd for name, odd in CASES.items() if odd.rows is None}


@pytest.mark.parametrize("name", READ)
def test_what_can_be_understood_is_read_and_reported(tmp_path, name):
    odd = READ[name]
    data = read_dataset(odd.write(tmp_path), **odd.arguments)
    columns = [data.texts, *([data.text_pairs] if data.text_pairs else []), [data.label_names[n] for n in data.labels]]
    assert list(zip(*columns, strict=True)) == list(odd.rows)
    report = data.report
    assert (report.num_without_text, report.num_without_label) == odd.left_out
    assert report.num_examples == len(odd.rows)
    assert {name: count for name, count in report.classes.items() if count} == Counter(row[-1] for row in odd.rows)
    said = "\n".join(report.lines())
    assert [words for words in odd.says if words not in said] == [], said
    assert "\x1b" not in said


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_is_refused_in_one_line(tmp_path, name):
    odd = REFUSED[name]
    with pytest.raises(UserInputError) as caught:
        read_dataset(odd.write(tmp_path), **odd.arguments)
    said = str(caught.value)
    assert [words for words in odd.says if words not in said] == [], said
    assert len(said.splitlines()) == 1
    assert "\x1b" not in said


def test_a_pipe_is_read_as_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=(table(FILMS),))
    writer.start()
    assert read_dataset(pipe).texts == tuple(text for text, _ in FILMS)
    writer.join()


def test_standard_input_is_read_as_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(table(FILMS).encode())))
    data = read_dataset("-")
    assert (len(data), data.report.files) == (10, ("standard input",))


def test_standard_input_must_be_there_and_no_terminal(monkeypatch):
    terminal, other_end = os.openpty()
    with os.fdopen(terminal) as stdin, os.fdopen(other_end):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(UserInputError, match="is a terminal; pipe the data into it"):
            read_dataset("-")
    for absent in (stdin, None):
        monkeypatch.setattr(sys, "stdin", absent)
        with pytest.raises(UserInputError, match="there is no standard input"):
            read_dataset("-")


def test_a_pipe_and_what_is_unpacked_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_MOST_PIPED_BYTES", 100)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(table(FILMS).encode())))
    with pytest.raises(UserInputError, match="through a pipe; save it as a file first"):
        read_dataset("-")
    monkeypatch.setattr(sources, "_MOST_UNPACKED_BYTES", 100)
    with pytest.raises(UserInputError, match="unpacks to more than"):
        read_dataset(READ["kinds: CSV by gzip"].write(tmp_path))


@pytest.mark.parametrize(
    "address", ["https://example.org/a.csv", "s3://bucket/a.csv", "gs://bucket/a.csv", "file:///a.csv"]
)
def test_an_address_is_to_be_downloaded_first(address):
    with pytest.raises(UserInputError, match="download it first"):
        read_dataset(address)


def test_no_data_at_all_and_a_name_with_nul_are_refused():
    with pytest.raises(UserInputError, match="expected a file, a folder or -"):
        read_dataset([])
    with pytest.raises(UserInputError, match=r"a\\x00b: no such file"):
        read_dataset("a\x00b")


def test_lines_and_cells_that_fill_the_memory_are_refused_with_their_line(tmp_path, monkeypatch):
    for module in (delimited, quotes):
        monkeypatch.setattr(module, "LONGEST_LINE_BYTES", 1 << 20)
    with pytest.raises(UserInputError, match="line 12 is longer than 1 MiB"):
        read_dataset(write(tmp_path / "a.csv", table([*FILMS, ("x" * (1 << 20), "pos")])))
    with pytest.raises(UserInputError, match="line 12: a cell begins here that is longer than 1 million characters"):
        read_dataset(write(tmp_path / "a.csv", table([*FILMS, ("x\n" * (1 << 20), "pos")])))


def test_many_files_and_classes_are_reported_in_short(tmp_path):
    rows = [(f"{n} {label}", f"class {label:02}") for label in range(20) for n in range(label + 4)]
    files = [write(tmp_path / f"{n}.csv", table(rows[n::5])) for n in range(5)]
    (said,) = read_dataset(files).report.lines()
    assert "2.csv and 2 more files: " in said
    assert said.endswith("class 13 17, class 12 16 and 12 more with 4 to 15 each")
    pairs = write(
        tmp_path / "pairs.csv", table([("a", f"b{n}", "xy"[n % 2]) for n in range(8)], header="text,text2,label")
    )
    assert "second texts from 'text2'" in read_dataset(pairs).report.lines()[0]
    assert "8 examples" in read_texts(pairs).report.lines()[0]


def test_encodings_that_decode_in_odd_ways_end_in_one_line(tmp_path):
    path = write(tmp_path / "a.csv", table(FILMS))
    for encoding in (
        "punycode",
        "idna",
        "utf-7",
        "undefined",
        "hz",
        "unicode_escape",
        "utf-16-be",
        "a\x00b",
        "x" * 300,
    ):
        with suppress(UserInputError):
            assert len(read_dataset(path, file_format=FileFormat(encoding=encoding))) == 10


def write(path, content):
    path.write_text(content)
    return path


def test_texts_alone_are_read_from_odd_files_too(tmp_path):
    glued = '"first\n' + "".join(f"a,b{n}\n" for n in range(4)) + 'last",x\n'
    (tmp_path / "a.csv").write_text("text,other\n" + glued)
    with pytest.raises(UserInputError, match="line 2: a quoted cell begins here and runs to line 7"):
        read_texts(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("text,other\n" + '"one\n\ntwo, and three\nfour",x\n')
    assert read_texts(tmp_path / "b.csv").texts == ("one\n\ntwo, and three\nfour",)
