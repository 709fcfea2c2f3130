"""`coldfuse experiment NAME` as its users run it, with a tiny model: killed and resumed, to the same bytes."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from statistics import fmean

import pytest
from commands import Process, coldfuse, wait_until
from reviews import write_reviews
from tiny_model import write_tiny_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.consumer import hold
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.experiments.fusion_data import Sizes as Taken
from coldfuse.experiments.fusion_data import read_task
from coldfuse.experiments.fusion_models import read_model, write_model
from coldfuse.experiments.paper.corpus import read_corpus
from coldfuse.experiments.paper.making import Workshop, make
from coldfuse.experiments.paper.models import Fused, Gated, Pretrained
from coldfuse.experiments.paper.multitask import Multitask, pool
from coldfuse.experiments.paper.protocol import Share
from coldfuse.experiments.paper.values import Sizes
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.settings import TrainingSettings

SMALL = ("--rounds", 2, "--examples", 16, "--scoring", 16, "--test", 10, "--seeds", 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for task in ("books", "films", "plays"):
        (folder / task).mkdir()
        write_reviews(folder / task / "train.csv", num=80, subject=task)
        write_reviews(folder / task / "test.csv", num=20, subject=task)
    return folder


def experiment(*words):
    """Run the command in this process, which has torch already; return its output."""
    result = CliRunner().invoke(app, ["experiment", *map(str, words)])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def kill_after(process: Process, word: str) -> None:
    """Kill a process once it has said the word on standard error, while it works on."""
    wait_until(lambda: any(word in line for line in list(process.errors)), word)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, str(process)


def results(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_an_experiment_that_was_killed_goes_on_to_the_same_bytes(data, base, tmp_path):
    words = ("num-datasets", "--data", data, "--base", base, *SMALL, "--score-every", 1, "--sets", "books")
    with coldfuse("experiment", *words, "--work", tmp_path / "killed") as process:
        kill_after(process, "round 1")
    models = list((tmp_path / "killed" / "models").iterdir())
    assert models  # a round was there
    before = {path: path.stat().st_mtime_ns for path in models}
    experiment(*words, "--work", tmp_path / "killed")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    experiment(*words, "--work", tmp_path / "whole")
    killed, whole = (tmp_path / name / "num-datasets" for name in ("killed", "whole"))
    assert (killed / "results.jsonl").read_bytes() == (whole / "results.jsonl").read_bytes()
    assert [(row["round"], row["set"]) for row in results(whole)] == [(number, "books") for number in range(3)]
    assert (whole / "figure.png").stat().st_size > 10_000
    assert f"digest {open_checkpoint(base).digest()}" in (whole / "summary.md").read_text()
    again = experiment(*words, "--work", tmp_path / "whole", "--so-far", "--json")
    assert [json.loads(line) for line in again.stdout.splitlines()] == results(whole)


def test_baselines_averages_and_hostile_contributors_are_models_like_others(data, base, tmp_path):
    words = ("--data", data, "--base", base, "--work", tmp_path, *SMALL, "--sets", "films")
    experiment("main", *words, "--rounds", 1, "--discard")
    found = results(tmp_path / "main")
    assert not list((tmp_path / "models").iterdir())
    assert not list((tmp_path / "tuned").iterdir())
    curves = {"ColD Fusion", "EMA of releases", "outer Nesterov"}
    assert {row["variant"] for row in found} == {*curves, "one-shot", "multitask"}
    assert len({row["model"] for row in found}) == 5  # the start, the release, which is the one-shot one too, and three
    assert all(0 <= row["accuracy"] <= 1 for row in found)


@pytest.mark.parametrize("is_better", [True, False])
def test_a_gate_publishes_what_is_better_on_seen_data_and_else_keeps_the_base(data, base, tmp_path, is_better):
    """Words say the label; a model that cannot tell words apart is worse, one that can is better."""
    rows = read_task(data / "books", Taken(train=80, validation=8, test=20), seed=0)
    train, validation = rows.train.take(range(24)), rows.train.take(range(24, len(rows.train)))
    tasks = {"books": replace(rows, train=train, validation=validation)}
    shop = Workshop(
        work=tmp_path, base=base, tasks=tasks, digests={"books": "d"}, sizes=Sizes(scoring=24), threads=1
    )  # fmt: skip
    before, candidate = (
        Pretrained(digest="good", how=""),
        Fused(start=Pretrained(digest="", how=""), tuned=(), recipe=""),
    )
    blind = {name: t * 0.0 if "word_embeddings" in name else t for name, t in read_model(base).items()}
    write_model(tmp_path / "blind", base, blind)
    if is_better:  # the base is the blind one
        shop = replace(shop, base=tmp_path / "blind")
    shutil.copytree(base if is_better else tmp_path / "blind", shop.place(candidate))
    model = Gated(
        before=before, candidate=candidate, shares=(Share(set="books", first=0, count=24),), data=("d",)
    )  # fmt: skip
    found = make(shop, model)
    assert open_checkpoint(found).digest() == open_checkpoint(base).digest()  # the better one of the two, either way


def test_nothing_is_made_where_only_what_is_there_is_asked_for(data, base, tmp_path):
    with pytest.raises(UserInputError, match="has no score of this experiment yet"):
        experiment("main", "--data", data, "--base", base, "--work", tmp_path / "new", "--so-far")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("single-dataset", "--examples", "100"), "need 5000 over all rounds"),
        (("unseen", "--sets", "books,films"), "cannot be dealt to 3 folds"),
        (("contributors", "--contributors", "3"), "says itself how many contribute"),
        (("main", "--seeds", "x"), "expected numbers, separated by commas"),
        (("main", "--sets", "nowhere"), r"nowhere: expected train.parquet"),
        (("main", "--learning-rate", "7"), "learning_rate is 7.0, expected"),
    ],
)
def test_what_cannot_be_run_ends_in_one_line_before_anything_is_made(data, base, tmp_path, words, message):
    with pytest.raises(ColdfuseError, match=message):
        experiment(*words, "--data", data, "--base", base, "--work", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_two_processes_do_not_work_in_one_folder(data, base, tmp_path):
    with hold(tmp_path, hint="by a test"), pytest.raises(UserInputError, match="another process works in it"):
        experiment("main", "--data", data, "--base", base, "--work", tmp_path, *SMALL)
    with hold(tmp_path, hint="by a test"):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_texts_of_left_out_data_sets_are_not_read_wherever_they_stand(data, tmp_path):
    text = (data / "plays" / "test.csv").read_text().splitlines()[1].partition(",")[0]
    with open(data / "books" / "train.csv", "a") as file:
        file.write(f"{text.upper()},positive\n")
    corpus = read_corpus(data, [], ["plays"])
    assert corpus.sets == ("books", "films")
    assert len(corpus.train) > 100
    assert not [one for one in (*corpus.train, *corpus.validation) if "play" in one.lower()]
    with pytest.raises(UserInputError, match="expected a folder poems"):
        read_corpus(data, [], ["poems"])
    with pytest.raises(UserInputError, match="nowhere: expected a folder that has one for each data set"):
        read_corpus(data / "nowhere", [], [])


def test_a_pretraining_that_was_killed_goes_on_to_the_same_model(data, tmp_path):
    words = (
        "pretrain", "--data", data, "--layers", 1, "--hidden-size", 64, "--vocabulary", 400, "--batch", 8,
        "--epochs", 2, "--sets", "films",
    )  # fmt: skip
    with coldfuse("experiment", *words, "--out", tmp_path / "killed") as process:
        kill_after(process, "perplexity")
    assert not (tmp_path / "killed" / "model").exists()
    for name in ("killed", "whole"):
        experiment(*words, "--out", tmp_path / name)
    notes = [json.loads((tmp_path / name / "pretraining.json").read_text()) for name in ("killed", "whole")]
    assert notes[0]["digest"] == notes[1]["digest"]
    curves = [(tmp_path / name / "loss.jsonl").read_text() for name in ("killed", "whole")]
    assert curves[0] == curves[1]
    with pytest.raises(UserInputError, match="holds a pretraining with other settings or texts"):
        experiment(*words, "--out", tmp_path / "whole", "--seed", 1)


def test_single_texts_and_pairs_are_trained_on_together_each_by_the_classes_of_its_data_set(base):
    singles = TextDataset(texts=("good film", "bad film"), labels=(0, 1), label_names=("yes", "no"))
    pairs = TextDataset(texts=("a good film",), text_pairs=("a bad film",), labels=(2,), label_names=("x", "y", "z"))
    pooled, task = pool({"pairs": pairs, "singles": singles}), Multitask()
    loaded = task.load(base, pooled, TrainingSettings())
    features = task.encode(loaded, pooled)
    alone = task.encode(loaded, singles)
    assert [feature["input_ids"] for feature in features][1:] == [feature["input_ids"] for feature in alone]
    assert features[0]["token_type_ids"].count(1) > 1
    task.start_head(loaded, features)
    assert task.score(loaded, pooled, features) == 1.0


def test_a_few_shot_score_is_the_mean_of_draws_of_which_each_is_kept(data, base, tmp_path):
    words = ("--data", data, "--base", base, "--work", tmp_path, *SMALL, "--rounds", 1, "--few", 8)
    words = ("few-shot", *words, "--unseen", "plays", "--curves", "ColD Fusion")

    def accuracies(*more):
        experiment(*words, *more)
        return [row["accuracy"] for row in results(tmp_path / "few-shot")]

    one = accuracies("--draws", 1)
    first = {path: path.read_bytes() for path in (tmp_path / "scores").iterdir()}
    assert len(one) == len(first) == 2  # the start and the round
    three = accuracies()
    every = [json.loads(path.read_bytes()) for path in (tmp_path / "scores").iterdir()]
    assert len(every) == 6
    assert all(path.read_bytes() == before for path, before in first.items())
    means = {model: fmean(s["accuracy"] for s in every if s["model"] == model) for model in {s["model"] for s in every}}
    assert sorted(three) == pytest.approx(sorted(means.values()))
    assert accuracies("--draws", 1) == one


def test_curves_are_chosen_by_name(data, base, tmp_path):
    words = ("main", "--data", data, "--base", base, "--work", tmp_path, *SMALL, "--sets", "films", "--rounds", 1)
    experiment(*words, "--curves", "outer Nesterov; one-shot")
    assert {row["variant"] for row in results(tmp_path / "main")} == {"outer Nesterov", "one-shot"}
    with pytest.raises(UserInputError, match="--curves mean: main has ColD Fusion; EMA of releases; outer Nesterov; "):
        experiment(*words, "--curves", "mean")
    with pytest.raises(UserInputError, match="at least one that is no baseline"):
        experiment(*words, "--curves", "one-shot")
