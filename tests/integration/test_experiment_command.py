"""`coldfuse experiment fusion` as its users run it, with a tiny model."""

import json

import pytest
from commands import run_coldfuse
from reviews import write_reviews
from tiny_model import write_tiny_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.errors import ColdfuseError


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for task in ("films", "books"):
        (folder / task).mkdir()
        write_reviews(folder / task / "train.csv", num=60, subject=task)
        write_reviews(folder / task / "test.csv", num=20, subject=task)
    return folder


def experiment(setting, data, work, base, *options):
    """Run the command in this process, which has torch already; return its output."""
    words = ["experiment", "fusion", setting, "--data", data, "--work", work, "--base", base, "--epochs", 1, *options]
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_own_tasks_are_trained_fused_and_scored(data, base, tmp_path):
    command = ("experiment", "fusion", "tasks", "--data", data, "--work", tmp_path, "--base", base, "--epochs", 1)
    options = ("--tasks", "films,books", "--seeds", "0,1", "--method", "mean", "--method", "fisher", "--json")
    found = json.loads("\n".join(run_coldfuse(*command, *options).succeed().lines))
    assert [row["method"] for row in found] == ["base and linear head", "single models", "mean", "fisher"]
    for row in found:
        assert [list(outcome["accuracy"]) for outcome in row["by_seed"]] == [["films", "books"]] * 2
        assert all(0 <= value <= 1 for outcome in row["by_seed"] for value in outcome["accuracy"].values())


def test_a_second_run_trains_and_scores_nothing_again(data, base, tmp_path):
    options = ("--tasks", "films,books", "--seeds", "0", "--method", "regmean")
    first = experiment("tasks", data, tmp_path, base, *options)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert experiment("tasks", data, tmp_path, base, *options) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_partitions_fuse_their_heads_with_the_body(data, base, tmp_path):
    options = ("--tasks", "films", "--parties", 2, "--examples", 16, "--main-share", 0.75, "--seeds", 0)
    methods = ("--method", "mean", "--method", "fisher", "--method", "regmean(off_diagonal=0.9)")
    lines = experiment("partitions", data, tmp_path, base, *options, *methods).splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names == ["base and linear head", "single models", "mean", "fisher", "regmean(off_diagonal=0.9)"]


def test_hostile_contributions_are_scored_beside_the_clean_round(data, base, tmp_path):
    options = ("--tasks", "films", "--parties", 5, "--examples", 8, "--seeds", 0)
    lines = experiment("robust", data, tmp_path, base, *options, "--method", "mean", "--method", "median").splitlines()
    assert lines[0] == "| method | clean | noise10 | noise100 | flip | flip10 |"
    assert [line.count("±") for line in lines[2:]] == [1, 1, 5, 5]


@pytest.mark.parametrize(
    ("setting", "options", "message"),
    [
        ("tasks", ("--tasks", "nothing"), "nothing: expected train.parquet"),
        ("tasks", ("--parties", "3"), "for one task that is dealt out"),
        ("partitions", ("--tasks", "films,books"), "deals out one task, got 2"),
        ("tasks", ("--seeds", "one"), "expected numbers, separated by commas"),
        ("tasks", ("--method", "sorcery"), "'sorcery' is not known"),
    ],
)
def test_bad_input_ends_with_one_line(data, base, tmp_path, setting, options, message):
    with pytest.raises(ColdfuseError, match=message):
        experiment(setting, data, tmp_path, base, *options)
    assert not list(tmp_path.iterdir()) or setting == "tasks"


def test_an_unknown_setting_is_wrong_usage(data, base, tmp_path):
    words = ["experiment", "fusion", "soup", "--data", str(data), "--work", str(tmp_path), "--base", str(base)]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, "expected one of" in result.output) == (2, True)
