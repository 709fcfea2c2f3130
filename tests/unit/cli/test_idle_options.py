"""An option that would be taken and heeded nowhere is refused."""

from pathlib import Path

import pytest
import typer

from coldfuse.cli.contributor import contribute
from coldfuse.cli.options.contributor import ContributeOptions, Training
from coldfuse.cli.options.shared import NodeColumns


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--num-examples", {"num_examples": 5}),
        ("--base", {"base": Path("release")}),
        ("--release", {"release": 0}),
        ("--statistics", {"statistics": Path("fisher")}),
    ],
)
def test_what_is_of_a_model_is_refused_beside_data(option, given):
    with pytest.raises(typer.BadParameter, match=f"{option} is for --model; leave it out"):
        contribute(ContributeOptions(address="127.0.0.1:1", data=["data.csv"], **given))


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--validation", {"validation": ["more.csv"]}),
        ("--task", {"task": "regression"}),
        ("--rounds", {"rounds": 3}),
        ("--send-anyway", {"send_anyway": True}),
        ("--train", {"training": Training(train="bias")}),
        ("--wise-ft", {"training": Training(wise_ft=True)}),
        ("--objective", {"training": Training(objectives=["sam"])}),
        ("--teacher", {"training": Training(teachers=["model"])}),
        ("--label-column", {"columns": NodeColumns(label_column="stars")}),
        ("--column", {"columns": NodeColumns(column=["text=body"])}),
    ],
)
def test_what_is_of_training_is_refused_beside_a_model(option, given, tmp_path):
    with pytest.raises(typer.BadParameter, match=f"{option} is for training on --data; leave it out"):
        contribute(ContributeOptions(address="127.0.0.1:1", model=tmp_path, num_examples=5, **given))
