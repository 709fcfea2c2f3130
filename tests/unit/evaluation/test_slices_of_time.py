"""Tables cut by time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coldfuse.errors import UserInputError
from coldfuse.evaluation.slices import cut_by_time


def write(path: Path, moments: list[object]) -> str:
    path.write_text("".join(json.dumps({"text": f"text {n}", "when": m}) + "\n" for n, m in enumerate(moments)))
    return str(path)


def moments_in(path: Path) -> list[object]:
    return [json.loads(line)["when"] for line in path.read_text().splitlines()]


def test_rows_are_cut_in_the_order_of_their_time_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [2003, 2001, 2004, 2002])
    first, second = cut_by_time(data, "when", 2, folder=tmp_path / "out")
    assert (first.name, second.name) == ("2001 to 2002", "2003 to 2004")
    assert moments_in(first.path) == [2001, 2002]
    assert moments_in(second.path) == [2003, 2004]


def test_rows_of_one_moment_stay_together(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [1, 2, 2, 2, 2, 3])
    assert [piece.num_rows for piece in cut_by_time(data, "when", 3, folder=tmp_path)] == [1, 4, 1]


def test_numbers_are_no_words_and_dates_of_all_kinds_are_moments(tmp_path: Path) -> None:
    numbers = write(tmp_path / "numbers.jsonl", ["10", "9", "100", "99"])
    assert [p.name for p in cut_by_time(numbers, "when", 2, folder=tmp_path / "a")] == ["9 to 10", "99 to 100"]
    dates = write(
        tmp_path / "dates.jsonl", ["2024-05-01", "2023-12-31T23:59:59+01:00", "2024-04-30 12:00", "2025-01-01"]
    )
    first, second = cut_by_time(dates, "when", 2, folder=tmp_path / "b")
    assert first.name == "2023-12-31T23:59:59+01:00 to 2024-04-30 12:00"
    assert second.name == "2024-05-01 to 2025-01-01"


@pytest.mark.parametrize("bad", ["soon", None, "nan", "inf", True, "2024-13-01"])
def test_a_row_without_a_time_is_named_by_its_place(tmp_path: Path, bad: object) -> None:
    data = write(tmp_path / "data.jsonl", [1, 2, bad, 4])
    with pytest.raises(UserInputError, match=r"data\.jsonl, line 3: its time is neither"):
        cut_by_time(data, "when", 2, folder=tmp_path)


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [5, 5, 5])
    with pytest.raises(UserInputError, match="one moment alone"):
        cut_by_time(data, "when", 2, folder=tmp_path)
    with pytest.raises(UserInputError, match="no column 'then'"):
        cut_by_time(data, "then", 2, folder=tmp_path)
    with pytest.raises(UserInputError, match="expected 2 or more"):
        cut_by_time(data, "when", 1, folder=tmp_path)
