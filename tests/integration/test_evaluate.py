"""`coldfuse evaluate` and `coldfuse.evaluate`: models scored on one's own data, kept, and compared."""

from __future__ import annotations

import json
import pickle
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Process, coldfuse, wait_until
from reviews import write_reviews
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model
from tiny_texts import write_text_model
from typer.testing import CliRunner

from coldfuse import EvaluationResult, UserInputError, evaluate
from coldfuse.cli.main import app
from coldfuse.data.reading import read_dataset
from coldfuse.errors import ColdfuseError
from coldfuse.evaluation import trials
from coldfuse.evaluation.probe import linear_probe
from coldfuse.evaluation.suites import TEST_FRACTION
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_tiny_model(folder / name, seed=seed) for seed, name in enumerate(("one", "two"))]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "films.csv", num=60)


def run(*words: object) -> str:
    """Run the command in this process, which has torch already; return what it prints."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_models_are_scored_and_compared(models: list[Path], films: Path, tmp_path: Path) -> None:
    words = (*models, "--data", films, "--work", tmp_path / "work")
    out, picture = tmp_path / "result.json", tmp_path / "scores.svg"
    said = json.loads(run(*words, "--json", "--out", out, "--plot", picture))
    assert said["form"] == "coldfuse-evaluation/1"
    assert [model["name"] for model in said["models"]] == ["one", "two"]
    [data] = said["data"]
    assert (data["name"], data["metric"], data["num_train"], data["num_test"]) == ("films", "accuracy", 42, 18)
    assert [row["model"] for row in said["scores"]] == ["one", "two"]
    [row] = said["comparisons"]
    assert (row["reference"], row["model"], row["num_examples"]) == ("one", "two", 18)
    assert EvaluationResult.load(out).model_dump(mode="json") == said
    assert picture.read_text().lstrip().startswith("<?xml")
    table = run(*words)
    assert "films" in table
    assert "compared with one" in table


def test_the_probe_is_the_linear_probe(models: list[Path], films: Path, tmp_path: Path) -> None:
    found = evaluate(models[0], films, work=tmp_path)
    train, test = set_apart(find_task("text-classification"), read_dataset(films), seed=0, fraction=TEST_FRACTION)
    assert found.scores[0].mean == linear_probe(models[0], train, test, threads=1).accuracy


def test_what_was_scored_is_not_scored_again(
    models: list[Path], films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(models, films, shots=[4], work=tmp_path)
    monkeypatch.setattr(trials, "score_model", None)
    assert evaluate(models, films, shots=[4], work=tmp_path) == first
    assert len(list((tmp_path / "trials").iterdir())) == 6


def test_a_trial_that_the_disk_has_changed_is_scored_again(models: list[Path], films: Path, tmp_path: Path) -> None:
    first = evaluate(models[0], films, work=tmp_path)
    [path] = (tmp_path / "trials").iterdir()
    path.write_bytes(path.read_bytes().replace(b"1.0", b"0.0", 1))
    assert evaluate(models[0], films, work=tmp_path) == first


def test_features_of_a_frozen_body_are_computed_once_for_all_protocols(
    models: list[Path], films: Path, tmp_path: Path
) -> None:
    evaluate(models[0], films, shots=[4, 8, 16], work=tmp_path)
    assert len(list((tmp_path / "features").iterdir())) == 2  # of the training examples, and of the test


def test_killed_it_goes_on_and_ends_in_the_same_bytes(models: list[Path], films: Path, tmp_path: Path) -> None:
    words = ("--data", films, "--protocol", "fine-tuned", "--epochs", 2, "--seeds", "0,1", "--json")
    with coldfuse("evaluate", models[0], *words, "--work", tmp_path / "killed") as process:
        _until(process, "1 of 2")
        process.send(signal.SIGKILL)
    kept = {path.name for path in (tmp_path / "killed" / "trials").iterdir() if path.suffix == ".json"}
    assert kept
    after = run(models[0], *words, "--work", tmp_path / "killed")
    assert kept <= {path.name for path in (tmp_path / "killed" / "trials").iterdir()}
    assert after == run(models[0], *words, "--work", tmp_path / "whole")


def _until(process: Process, word: str) -> None:
    wait_until(lambda: any(word in line for line in process.errors), word)


def test_fine_tuning_is_the_nodes_own_and_depends_on_the_seed(models: list[Path], films: Path, tmp_path: Path) -> None:
    options = {"protocols": ["fine-tuned"], "epochs": 4, "learning_rate": 3e-3, "batch_size": 8}
    found = evaluate(models[0], films, seeds=[0, 1, 2], work=tmp_path, **options)
    assert found.scores[0].mean > evaluate(models[0], films, shots=[4], work=tmp_path).scores[0].mean
    again = evaluate(models[0], films, seeds=[2, 0], work=tmp_path / "other", **options)
    assert again.scores[0].scores == (found.scores[0].scores[2], found.scores[0].scores[0])
    assert not list((tmp_path / "under-way").iterdir())


def test_few_labels_of_few_classes_are_fine_tuned_on_too(models: list[Path], films: Path, tmp_path: Path) -> None:
    found = evaluate(models[0], films, protocols=["fine-tuned"], shots=[1, 500], epochs=1, seeds=[0], work=tmp_path)
    assert [row.protocol for row in found.scores] == ["fine-tuned, 1 label", "fine-tuned, 500 labels"]
    assert any("1 of the 2 classes have no example" in note for note in found.notes)
    assert any("500 labels were asked for, and there are 42" in note for note in found.notes)


def test_out_of_distribution_the_other_source_is_a_test_set_of_its_own(models: list[Path], tmp_path: Path) -> None:
    films, books = (write_reviews(tmp_path / f"{name}s.csv", num=40, subject=name) for name in ("film", "book"))
    found = evaluate(models[0], train=[films], test=[books], work=tmp_path / "work")
    assert [(data.name, data.num_test) for data in found.data] == [("films", 12), ("films → books", 40)]
    assert found.scores[1].change == pytest.approx(found.scores[1].mean - found.scores[0].mean)


def test_test_examples_that_are_trained_on_are_said(models: list[Path], films: Path, tmp_path: Path) -> None:
    found = evaluate(models[0], train=[films], test=[films], work=tmp_path)
    assert "films films (2): 42 of 60 test examples are among those that are trained on" in found.notes


def test_data_are_cut_by_time(models: list[Path], tmp_path: Path) -> None:
    rows = [f"{'good' if n % 2 else 'bad'} film {n},{n % 2},{2000 + n // 20}" for n in range(80)]
    (tmp_path / "films.csv").write_text("\n".join(["text,label,year", *rows]))
    found = evaluate(models[0], tmp_path / "films.csv", time_column="year", slices=4, work=tmp_path / "work")
    assert [data.name for data in found.data] == [f"films → {year}" for year in (2000, 2001, 2002, 2003)]
    assert [data.num_test for data in found.data] == [6, 20, 20, 20]
    assert [row.change is None for row in found.scores] == [True, False, False, False]


def test_a_release_is_scored_by_its_federation(models: list[Path], films: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    rules = {"quorum": 2, "deadline_s": 60.0}
    create_federation(LocalStore(store), name="films", base=models[0], origin="one", method="mean", rules=rules)
    found = evaluate([models[0], store, f"{store}@0", f"{store}@latest"], films, work=tmp_path / "work")
    assert len({row.mean for row in found.scores}) == 1
    assert [model.name for model in found.models] == ["one", "store", f"{store}@0", f"{store}@latest"]
    with pytest.raises(ColdfuseError, match="7"):
        evaluate(f"{store}@7", films, work=tmp_path / "work")


def test_a_delta_and_an_adapter_are_scored_on_their_base(models: list[Path], films: Path, tmp_path: Path) -> None:
    from coldfuse import fuse

    fuse(models[0], [models[1]], out=tmp_path / "two.safetensors", kind="delta")
    found = evaluate([models[1], tmp_path / "two.safetensors"], films, base=models[0], work=tmp_path / "work")
    assert found.scores[0].mean == found.scores[1].mean
    with pytest.raises(UserInputError, match="--base MODEL"):
        evaluate(tmp_path / "two.safetensors", films, work=tmp_path / "work")


def damaged(folder: Path, models: list[Path]) -> Path:
    """Copy a model with one number that is none."""
    write_tiny_model(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_broken_models_are_named_in_one_line(models: list[Path], films: Path, tmp_path: Path) -> None:
    broken = damaged(tmp_path / "broken", models)
    with pytest.raises(UserInputError, match=r"broken on films, probe: .*not finite"):
        evaluate([models[0], broken], films, work=tmp_path / "work")
    bare = write_tiny_model(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    with pytest.raises(UserInputError, match="no tokenizer"):
        evaluate([models[0], bare], films, work=tmp_path / "work")
    for lost in (tmp_path / "nowhere", films):
        with pytest.raises(UserInputError, match=lost.name):
            evaluate([models[0], lost], films, work=tmp_path / "work")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "empty"),
        (b"text,label\nonly one,good\n", "expected 8"),
        (b"text,label\n" + b"the same,good\n" * 20, "two classes"),
        (b"text,label\n" + b"\xff\xfe\x00bad \x81\x8d,good\nfine,bad\n" * 9, "encoding"),
    ],
)
def test_data_that_cannot_be_learnt_from_are_refused(
    models: list[Path], tmp_path: Path, text: bytes, said: str
) -> None:
    (tmp_path / "films.csv").write_bytes(text)
    with pytest.raises(UserInputError, match=said):
        evaluate(models[0], tmp_path / "films.csv", work=tmp_path / "work")


def test_a_model_of_another_kind_than_the_data_is_refused(models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Some words.\n\nAnd more of them.\n" * 9)
    with pytest.raises(UserInputError, match=r"one on text, perplexity: .*cannot"):
        evaluate(models[0], tmp_path / "text.txt", task="text-generation", work=tmp_path / "work")
    headless = write_text_model(tmp_path / "headless", "headless bert")
    with pytest.raises(UserInputError, match="no head that predicts"):
        evaluate(headless, tmp_path / "text.txt", task="fill-mask", work=tmp_path / "work")


def test_a_causal_model_has_features_for_a_probe_too(films: Path, tmp_path: Path) -> None:
    writer = write_text_model(tmp_path / "writer", "gpt2")
    assert 0 <= evaluate(writer, films, work=tmp_path / "work").scores[0].mean <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--protocol", "magic"), "magic"),
        (("--seeds", "a"), "--seeds a"),
        (("--seeds", "1,1"), "different numbers"),
        (("--shots", "0"), "expected 1 or more"),
        (("--plot", "scores.gif"), "expected a file that ends in"),
        (("--out", "nowhere/result.json"), "there is no folder"),
        (("--train", "x.csv"), "expected one to test on"),
        (("--suite", "glue"), "expected lm-eval:TASK"),
        (("--time-column", "when"), "no column 'when'"),
        (("--learning-rate", "nan"), "learning_rate is nan"),
        (("--device", "mps:7"), "device 'mps:7' cannot be used"),
        (("--task", "magic"), "magic"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_loaded(
    models: list[Path], films: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserInputError, match=said):
        run(models[0], "--data", films, "--work", tmp_path, *words)


def test_workers_in_any_order_that_are_sent_everything_give_the_same(
    models: list[Path], films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(models, films, shots=[4, 8], seeds=[0, 1], work=tmp_path / "here")

    def elsewhere(task: Any, shared: Any, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Do what Ray does with a task, its arguments and its result, the last item first."""
        for index in reversed(range(len(items))):
            sent = pickle.dumps((task, shared, items[index]))
            function, plan, item = pickle.loads(sent)
            yield index, pickle.loads(pickle.dumps(function(plan, item)))

    monkeypatch.setattr("coldfuse.api.evaluating.in_turn", elsewhere)
    assert evaluate(models, films, shots=[4, 8], seeds=[0, 1], work=tmp_path / "there") == expected


def test_two_evaluations_do_not_share_a_folder(models: list[Path], films: Path, tmp_path: Path) -> None:
    from coldfuse.consumer.folder import hold

    with hold(tmp_path, hint=""), pytest.raises(UserInputError, match="another evaluation is at work"):
        evaluate(models[0], films, work=tmp_path)


@pytest.mark.parametrize("name", ["num_train", "num_test"])
@pytest.mark.parametrize("count", [0, -3])
def test_nothing_is_scored_on_nothing(models: list[Path], films: Path, tmp_path: Path, name: str, count: int) -> None:
    with pytest.raises(UserInputError, match=f"--{name.replace('_', '-')} {count}: expected 1 or more"):
        evaluate(models[0], films, work=tmp_path, **{name: count})
