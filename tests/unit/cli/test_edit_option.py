"""`coldfuse contribute --edit`: what it stands for, and what cannot be meant."""

from pathlib import Path

import pytest
import typer

from coldfuse.cli.editing import with_edit
from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.errors import UserInputError


def options(**given):
    return ContributeOptions(address="127.0.0.1:1", **given)


def test_a_file_is_trained_on_once_as_the_task_edit():
    found = with_edit(options(edit="capital=facts.jsonl"))
    assert (found.data, found.task, found.edit, found.rounds) == (["facts.jsonl"], "edit", "capital", 1)
    more = with_edit(options(edit="capital=a=b.csv", task="edit(locality=1)", rounds=3))
    assert (more.data, more.task, more.rounds) == (["a=b.csv"], "edit(locality=1)", 3)
    assert with_edit(options(edit="capital=facts.jsonl", once=True)).rounds is None


def test_beside_a_model_the_name_alone_says_which_edit_it_is():
    given = options(edit="capital", model=Path("edited"), num_examples=1)
    assert with_edit(given) is given
    assert with_edit(options(data=["a.csv"])).edit is None


@pytest.mark.parametrize(
    "edit", ["=facts.jsonl", "capital=", "Capital=facts.jsonl", "a b=f", "a" * 51 + "=f", "../x=f"]
)
def test_a_name_that_can_be_none_is_refused(edit):
    with pytest.raises(UserInputError, match="expected NAME=FILE"):
        with_edit(options(edit=edit))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"edit": "capital"}, "give capital=FILE"),
        ({"edit": "capital=f", "data": ["a.csv"]}, "not both"),
        ({"edit": "capital=f", "task": "regression"}, "leave --task out"),
        ({"edit": "capital=f", "model": Path("edited")}, "give the NAME alone"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(typer.BadParameter, match=said):
        with_edit(options(**given))
