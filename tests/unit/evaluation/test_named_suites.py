"""Suites as they are named, and what is counted of two models."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.errors import UserInputError
from coldfuse.evaluation.measured import compare, nothing_right
from coldfuse.evaluation.named_suites import SuiteFiles


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
