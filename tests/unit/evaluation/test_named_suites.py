"""Suites as they are named, and what is counted of two models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coldfuse.errors import UserInputError
from coldfuse.evaluation.measured import compare, nothing_right
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite


def test_a_suite_names_its_task_and_its_files():
    found = SuiteFiles.parse("stars:regression=all.csv")
    assert (found.name, found.task.name, found.train, found.test) == ("stars", "regression", "all.csv", None)
    found = SuiteFiles.parse("mood=/data/train.csv, /data/test.csv")
    assert (found.task.name, found.train, found.test) == ("text-classification", "/data/train.csv", "/data/test.csv")
    assert SuiteFiles.parse("qa:text2text-generation(prefix=q)=x.json").task.name == "text2text-generation"


@pytest.mark.parametrize(
    "text",
    ["", "mood", "=x.csv", "mood=", "Mood=x.csv", "mood=a,b,c", "mood=a,,b", "mood:unknown=x.csv", "../x=y.csv",
     "pics:contrastive-image-text=x"],
)  # fmt: skip
def test_what_is_no_suite_is_refused_in_words(text: str):
    with pytest.raises(UserInputError):
        SuiteFiles.parse(text)


def test_examples_are_counted_on_which_one_of_two_models_does_better():
    before, after = np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])
    assert compare(before, after) == (2, 1)
    assert compare(np.array([-1.5, -2.0]), np.array([-1.0, -2.0])) == (0, 1)  # losses, below zero


def test_what_gets_nothing_right_loses_exactly_what_was_right():
    right = np.array([1.0, 0.0, 1.0])
    assert compare(right, nothing_right(right)) == (2, 0)
    losses = np.array([-1.0, -3.0])
    assert compare(losses, nothing_right(losses)) == (2, 0)


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(path)


def test_what_the_head_is_fitted_on_is_not_tested_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [(f"a text of number {number}", "no" if number % 2 else "yes") for number in range(20)]
    train, test = write(tmp_path / "train.csv", rows[:10]), write(tmp_path / "test.csv", rows[8:])
    suite = read_named_suite(SuiteFiles.parse(f"mood={train},{test}"))
    assert set(suite.tests[""].texts) == {text for text, _ in rows[10:]}
    assert "2 of 12 examples to test on are among those" in caplog.text
    with pytest.raises(UserInputError, match="all of its 10 examples to test on are among those"):
        read_named_suite(SuiteFiles.parse(f"mood={train},{train}"))
    assert len(read_named_suite(SuiteFiles.parse(f"mood={train}")).tests[""]) == 4  # halves share nothing
