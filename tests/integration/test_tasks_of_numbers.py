"""Multi-label classification and regression: read as people write them, trained, and scored as scikit-learn does."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_model import write_tiny_model

from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, TrainingJob, TrainingSettings
from coldfuse.training.tasks import describe_task, find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest

SETTINGS = TrainingSettings(num_epochs=2, batch_size=8, learning_rate=3e-3, threads=1, device="cpu", seed=5)
WORDS = ("good", "bad", "great", "awful")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


def rows(num: int) -> list[tuple[str, list[str]]]:
    """Texts with the labels that their words give away; some have none."""
    sets = [["good"], ["bad"], ["good", "film"], ["bad", "film"], []]
    return [(f"the {' '.join(labels)} one {number}", labels) for number in range(num) for labels in [sets[number % 5]]]


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def train(base: Path, task_line: str, examples) -> FineTuned:
    task = find_task(task_line)
    learnt, held_out = set_apart(task, examples, seed=0)
    job = TrainingJob(
        base_dir=base, base_digest="0" * 64, schema_names=open_checkpoint(base).schema.keys(), round=1, train=learnt,
        validation=held_out, task=task,
    )  # fmt: skip
    made = fine_tune(job, SETTINGS)
    assert isinstance(made, FineTuned)
    return made


def test_labels_are_the_same_as_a_list_as_words_of_one_cell_and_as_columns(tmp_path):
    lists = write(tmp_path / "lists.jsonl", [{"text": text, "labels": labels} for text, labels in rows(20)])
    cells = tmp_path / "cells.csv"
    cells.write_text("text,labels\n" + "".join(f"{text},{'|'.join(labels)}\n" for text, labels in rows(20)))
    columns = tmp_path / "columns.csv"
    columns.write_text(
        "text,bad,film,good\n"
        + "".join(f"{t},{int('bad' in ls)},{int('film' in ls)},{int('good' in ls)}\n" for t, ls in rows(20))
    )
    plain, split = find_task("multi-label-classification"), find_task("multi-label-classification(separator=|)")
    read = plain.read(DataRequest(data=lists))
    assert read.names == ("bad", "film", "good")
    assert split.read(DataRequest(data=cells)).digest() == read.digest()
    named = DataRequest(data=columns, columns={"labels": "bad,film,good"})
    assert plain.read(named).digest() == read.digest()
    assert describe_task(split) == "multi-label-classification(separator=|)"


def test_what_could_be_several_labels_or_is_none_is_asked_for_without_a_word_of_the_rows(tmp_path):
    cells = tmp_path / "cells.csv"
    cells.write_text("text,labels,level\n" + "".join(f'secret {i},"hush,mum",7\n' for i in range(9)))
    with pytest.raises(
        UserInputError, match=r"line 2: its labels are one text with ',' in it; .*separator=.,."
    ) as found:
        find_task("multi-label-classification").read(DataRequest(data=cells))
    assert "hush" not in str(found.value)
    assert "secret" not in str(found.value)
    with pytest.raises(UserInputError, match=r"column '(labels|level)' has neither 0 nor 1"):
        find_task("multi-label-classification").read(DataRequest(data=cells, columns={"labels": "labels,level"}))


def test_validation_with_a_label_that_training_lacks_is_refused(tmp_path):
    task = find_task("multi-label-classification")
    known = task.read(DataRequest(data=write(tmp_path / "a", [{"text": t, "labels": ls} for t, ls in rows(10)])))
    other = write(tmp_path / "b", [{"text": "x", "labels": ["unheard"]}])
    with pytest.raises(UserInputError, match=r"(row|line) 1: (it has )?a label that the training data lack"):
        task.read(DataRequest(data=other), like=known)


def test_several_labels_are_learnt_and_scored_by_macro_f1(base, tmp_path):
    task = "multi-label-classification"
    examples = find_task(task).read(
        DataRequest(data=write(tmp_path / "a", [{"text": t, "labels": ls} for t, ls in rows(60)]))
    )
    made = train(base, task, examples)
    assert made.score_after > 0.9
    assert made.private.tensors["head.weight"].shape == (3, 32)
    assert json.loads(made.private.notes["labels"]) == ["bad", "film", "good"]
    assert any(tensor.any() for tensor in made.tensors.values())


def numbers(num: int, *, low: float, high: float) -> list[dict]:
    return [
        {"sentence1": f"the film was {WORDS[i % 4]}", "sentence2": f"it is {i}", "score": low + (high - low) * (i % 2)}
        for i in range(num)
    ]


def test_pairs_with_numbers_are_learnt_by_their_range_and_scored_by_rank(base, tmp_path):
    task = find_task("regression")
    examples = task.read(DataRequest(data=write(tmp_path / "sts.jsonl", numbers(60, low=-2.0, high=5.0))))
    assert examples.bounds == (-2.0, 5.0)
    assert {min(examples.targets), max(examples.targets)} == {0.0, 1.0}
    assert examples.text_pairs is not None
    made = train(base, "regression", examples)
    assert -1 <= made.score_before <= 1
    assert made.score_after > 0.7
    assert json.loads(made.private.notes["bounds"]) == [-2.0, 5.0]


def test_the_scores_are_those_of_scikit_learn_and_scipy(base, tmp_path):
    from scipy.stats import spearmanr
    from sklearn.metrics import f1_score

    labelled = find_task("multi-label-classification").read(
        DataRequest(data=write(tmp_path / "a", [{"text": t, "labels": ls} for t, ls in rows(30)]))
    )
    rated = find_task("regression").read(DataRequest(data=write(tmp_path / "b", numbers(30, low=0, high=1))))
    for line, examples in (("multi-label-classification", labelled), ("regression", rated)):
        task = find_task(line)
        loaded = task.load(base, examples, SETTINGS)
        features = task.encode(loaded, examples)
        task.start_head(loaded, features)
        loaded.model.eval()
        with torch.no_grad():
            batch = loaded.collate(list(features))
            said = loaded.model(**batch).logits
        expected = (
            f1_score(batch["labels"].numpy(), said.numpy() > 0, average="macro")
            if line != "regression"
            else spearmanr(said.squeeze(1).numpy(), batch["labels"].numpy()).statistic
        )
        assert task.score(loaded, examples, features) == pytest.approx(expected, abs=1e-6)
        assert expected > 0.5


def test_a_number_that_is_none_is_named_by_its_place(tmp_path):
    bad = write(tmp_path / "a.jsonl", [*numbers(9, low=0, high=1), {**numbers(1, low=0, high=1)[0], "score": "many"}])
    with pytest.raises(UserInputError, match=r"a\.jsonl, line 10: its label is no number") as found:
        find_task("regression").read(DataRequest(data=bad))
    assert "many" not in str(found.value)
    same = write(tmp_path / "b.jsonl", [{**row, "score": 3} for row in numbers(9, low=0, high=1)])
    with pytest.raises(UserInputError, match="every example has the number 3"):
        find_task("regression").read(DataRequest(data=same))


def test_a_run_of_several_labels_ends_in_the_same_bytes_however_often_it_stops(base, tmp_path):
    task = find_task("multi-label-classification")
    examples = task.read(DataRequest(data=write(tmp_path / "a", [{"text": t, "labels": ls} for t, ls in rows(40)])))
    job = TrainingJob(
        base_dir=base, base_digest="0" * 64, schema_names=open_checkpoint(base).schema.keys(), round=1, train=examples,
        validation=examples, task=task,
    )  # fmt: skip
    whole = fine_tune(job, SETTINGS)
    calm, again, stops = replace(SETTINGS, checkpoint_every_s=1e6), None, 0
    while not isinstance(again, FineTuned):
        asked: list[int] = []
        again = fine_tune(
            job, calm, checkpoint=tmp_path / "run", progress=lambda now, a=asked: a.append(now.step),
            stop=lambda a=asked: sum(step > 0 for step in a) >= 3,
        )  # fmt: skip
        stops += 1
    assert stops > 2
    assert isinstance(whole, FineTuned)
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in whole.tensors.items())
    assert again.private.digest() == whole.private.digest()
