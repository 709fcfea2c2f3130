"""What `Federation.contribute` takes together, and what it refuses before anybody is asked."""

from __future__ import annotations

from typing import Any

import pytest

from coldfuse.api.sending import Asked
from coldfuse.core.given_edit import GivenEdit
from coldfuse.errors import UserInputError
from coldfuse.training.settings import TrainingSettings


def asked(**given: Any) -> Asked:
    usual: dict[str, Any] = dict.fromkeys(
        ("model", "num_examples", "edit", "training", "base", "release", "share", "statistics", "timeout_s")
    )
    return Asked(**usual | {"encoding": "F32", "wait": True} | given)


def test_a_file_is_trained_on_and_a_model_goes_under_a_name() -> None:
    assert asked(edit="capital=a=b.csv").edit_given() == GivenEdit(name="capital", file="a=b.csv")
    assert asked(edit="capital", model="tuned", num_examples=1).edit_given() == GivenEdit(name="capital", file=None)
    assert asked(model="tuned", num_examples=1, wait=False).edit_given() is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give the model that was fine-tuned, or edit='NAME=FILE'"),
        ({"edit": "capital"}, "to train the edit capital on a file"),
        ({"edit": "Capital=f"}, "edit 'Capital=f': expected NAME=FILE"),
        ({"edit": "../x", "model": "tuned", "num_examples": 1}, "expected NAME=FILE"),
        ({"edit": "capital\n", "model": "tuned", "num_examples": 1}, "expected NAME=FILE"),
        ({"edit": "capital="}, "expected NAME=FILE"),
        ({"edit": 7}, "edit=7: expected text"),
        ({"edit": "capital=f", "model": "tuned"}, "model= is for a model; leave it out beside capital=f"),
        ({"edit": "capital=f", "num_examples": 3}, "num_examples= is for a model"),
        ({"edit": "capital=f", "release": 0}, "release= is for a model"),
        ({"edit": "capital=f", "wait": False}, "wait= is for a model"),
        ({"model": "tuned"}, "num_examples=None: expected a whole number"),
        ({"model": "tuned", "num_examples": 1, "training": TrainingSettings()}, "training= is for edit='NAME=FILE'"),
        ({"edit": "capital=f", "encoding": "int1"}, "encoding='int1'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserInputError) as refused:
        asked(**given).edit_given()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
