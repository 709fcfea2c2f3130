"""Every odd file of the corpus is read as it should be, or refused in one line that says why."""

import os
import sys
from collections import Counter
from io import BytesIO, TextIOWrapper
from threading import Thread

import pytest
from odd_files import CASES
from odd_files.case import FILMS, table

from coldfuse.data import sources
from coldfuse.data.reading import read_dataset, read_texts
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


def test_a_pipe_and_what_is_unpacked_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_MOST_PIPED_BYTES", 100)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(table(FILMS).encode())))
    with pytest.raises(UserInputError, match="through a pipe; save it as a file first"):
        read_dataset("-")
    monkeypatch.setattr(sources, "_MOST_UNPACKED_BYTES", 100)
    with pytest.raises(UserInputError, match="unpacks to more than"):
        read_dataset(READ["kinds: CSV by gzip"].write(tmp_path))


@pytest.mark.parametrize(
    "address", ["https://example.org/a.csv", "s3://bucket/a.csv", "hf://datasets/x", "file:///a.csv"]
)
def test_an_address_is_to_be_downloaded_first(address):
    with pytest.raises(UserInputError, match="download it first"):
        read_dataset(address)


def test_no_data_at_all_and_a_name_with_nul_are_refused():
    with pytest.raises(UserInputError, match="expected a file, a folder or -"):
        read_dataset([])
    with pytest.raises(UserInputError, match=r"a\\x00b: no such file"):
        read_dataset("a\x00b")


def test_texts_alone_are_read_from_odd_files_too(tmp_path):
    glued = '"first\n' + "".join(f"a,b{n}\n" for n in range(4)) + 'last",x\n'
    (tmp_path / "a.csv").write_text("text,other\n" + glued)
    with pytest.raises(UserInputError, match="line 2: a quoted cell begins here and runs to line 7"):
        read_texts(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("text,other\n" + '"one\n\ntwo, and three\nfour",x\n')
    assert read_texts(tmp_path / "b.csv").texts == ("one\n\ntwo, and three\nfour",)
