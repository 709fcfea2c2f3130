"""The corpus of odd data files through the real command line: read and reported, or refused in one line."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from odd_files import CASES
from odd_files.case import FILMS, Odd, table

from coldfuse.cli.main import main

NOWHERE = "127.0.0.1:1"
"""An address where no gateway is: data are read and reported before it matters."""

REFUSED = [name for name, odd in CASES.items() if odd.rows is None]
READ = [name for name, odd in CASES.items() if odd.rows is not None]


def run(monkeypatch, *words: object) -> tuple[int, str, str]:
    """Run the command line in this process; return its exit status and what it says."""
    said, complained, status = StringIO(), StringIO(), 0
    monkeypatch.setattr(sys, "argv", ["coldfuse", *map(str, words)])
    with redirect_stdout(said), redirect_stderr(complained):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return status, said.getvalue(), complained.getvalue()


def contribute(monkeypatch, tmp_path, odd: Odd, *more: str) -> tuple[int, str, str]:
    data = [word for path in odd.write(tmp_path) for word in ("--data", path)]
    words = ("--dry-run", "--patience", "0.001s", "--work", tmp_path / "node", *odd.words, *more)
    return run(monkeypatch, "contribute", NOWHERE, *data, *words)


@pytest.mark.parametrize("name", [*REFUSED, *READ[::6]])
def test_a_dry_run_reports_what_it_read_or_refuses_in_one_line(monkeypatch, tmp_path, name):
    odd = CASES[name]
    status, said, complained = contribute(monkeypatch, tmp_path, odd)
    assert "bug" not in complained, complained
    assert "Traceback" not in complained
    assert (status, complained.count("\n")) == (1, 1), complained
    if odd.rows is None:
        assert [words for words in odd.says if " ".join(words.split()) not in complained] == []
        assert (said, (tmp_path / "node").exists()) == ("", False)
    else:
        assert "cannot be reached" in complained
        assert said.startswith("data: ")
        assert [words for words in odd.says if words not in said] == []


def test_events_say_the_same_as_values(monkeypatch, tmp_path):
    odd = CASES["classes: nan beside numbers"]
    _, said, _ = contribute(monkeypatch, tmp_path, odd, "--json")
    event = json.loads(said.splitlines()[0])  # what follows says that no gateway answers
    assert event["phase"] == "data"
    assert event["columns"] == {"text": "text", "text_pair": None, "label": "label"}
    assert (event["rows"], event["examples"], event["left_out"]) == (12, 8, {"no_text": 0, "no_label": 4})
    assert event["classes"] == {"0": 4, "1": 4}
    assert "4 without label" in event["message"]


def test_validation_data_are_reported_too_and_must_have_the_same_classes(monkeypatch, tmp_path):
    (tmp_path / "held-out.csv").write_text("text,label\nx,pos\n,neg\n")
    odd, held_out = CASES["tables: quoted texts with commas"], str(tmp_path / "held-out.csv")
    _, said, _ = contribute(monkeypatch, tmp_path, odd, "--validation", held_out)
    assert "validation: " in said
    assert "2 rows, left out 1 without text" in said
    (tmp_path / "held-out.csv").write_text("text,label\nx,other\n")
    _, _, complained = contribute(monkeypatch, tmp_path, odd, "--validation", held_out)
    assert "label 'other' is not one of the task's 2 classes" in complained


def test_pairs_are_not_validated_on_single_texts(monkeypatch, tmp_path):
    (tmp_path / "held-out.csv").write_text("text,text2,label\nx,y,pos\n")
    odd, held_out = CASES["tables: quoted texts with commas"], str(tmp_path / "held-out.csv")
    _, _, complained = contribute(monkeypatch, tmp_path, odd, "--validation", held_out)
    assert "only the validation data have a column of second texts" in complained


def test_standard_input_is_data(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(table(FILMS).encode())))
    odd = Odd(name="-", files={}, data=())
    words = ("--data", "-", "--dry-run", "--patience", "0.001s", "--work", tmp_path / "node", *odd.words)
    _, said, _ = run(monkeypatch, "contribute", NOWHERE, *words)
    assert said.startswith("data: standard input: texts from 'text'")


@pytest.mark.parametrize("word", ["--encoding", "--text-encoding"])
def test_the_letters_of_text_files_have_an_encoding_beside_the_delta_s(monkeypatch, tmp_path, word):
    (tmp_path / "a.csv").write_bytes(table([(f"{text} é", label) for text, label in FILMS]).encode("cp1252"))
    words = ("--data", tmp_path / "a.csv", "--patience", "0.001s", "--work", tmp_path / "node", word, "cp1252")
    _, said, _ = run(monkeypatch, "contribute", NOWHERE, *words)
    assert "(CP1252)" in said
    status, _, complained = run(monkeypatch, "contribute", NOWHERE, "--data", "a.csv", "--encoding", "int1")
    assert status == 2
    assert "F32, BF16 or F16" in " ".join(complained.replace("│", " ").split())


def test_a_narrow_terminal_gets_letters_that_it_lacks_escaped(monkeypatch, tmp_path):
    (tmp_path / "a.csv").write_text(table([("x", "漢"), ("y", "ä")] * 4), encoding="utf-8")
    narrow = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "argv", [
        "coldfuse", "contribute", NOWHERE, "--data", str(tmp_path / "a.csv"), "--patience", "0.001s", "--work",
        str(tmp_path / "node"),
    ])  # fmt: skip
    with redirect_stdout(narrow), redirect_stderr(StringIO()) as complained, pytest.raises(SystemExit):
        main()
    narrow.flush()
    assert b"\\u6f22 4" in narrow.buffer.getvalue()
    assert "cannot be reached" in complained.getvalue()
