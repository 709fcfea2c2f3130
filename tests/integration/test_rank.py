"""`coldfuse.rank` and `coldfuse rank` on tiny models: bodies, heads of their own, deltas, releases, and bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model, write_tokenizer
from typer.testing import CliRunner

import coldfuse
from coldfuse.cli.main import app
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.evaluation.transferability import leep, logme, nce
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore
from coldfuse.training.encoding import encode_all, tokenize
from coldfuse.training.head import LinearHead, save_head
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer

WORDS = {"good": ("good", "great", "fine"), "bad": ("bad", "awful", "poor"), "neither": ("the", "a", "film")}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def data() -> TextDataset:
    random = np.random.default_rng(0)
    labels = tuple(index % 3 for index in range(60))
    words = [[*random.choice(list(WORDS.values())[label], 2), *random.choice(["was", "and"], 2)] for label in labels]
    return TextDataset(texts=tuple(" ".join(each) for each in words), labels=labels, label_names=tuple(WORDS))


def command(*words: object) -> str:
    """Run the command in this process, where its libraries are loaded, and return its standard output."""
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def write_data(path: Path, data: TextDataset) -> Path:
    rows = [
        {"text": text, "label": data.label_names[label], "score": label + len(text)}
        for text, label in zip(data.texts, data.labels, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def with_head(base: Path, folder: Path, *, num_labels: int, **config: object) -> Path:
    """Write the base as a classifier of another task, with a head of random numbers."""
    from transformers import BertForSequenceClassification

    torch.manual_seed(3)
    model = BertForSequenceClassification.from_pretrained(base, num_labels=num_labels, **config)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def test_scores_are_those_of_the_features(base: Path, data: TextDataset) -> None:
    found = coldfuse.rank([base], data)
    body, tokenizer = load_body(base), load_tokenizer(base)
    texts = tokenize(tokenizer, data, find_intake(body, tokenizer, max_length=128))
    features = encode_all(body, texts).numpy()
    [model] = found.models
    score = model.score("logme")
    assert score is not None
    assert score.mean == pytest.approx(logme(features, data.labels), rel=1e-6)
    assert {each.name for each in model.scores if each.mean is not None} == {
        "logme", "h-score", "transrate", "knn", "probe"
    }  # fmt: skip
    assert (found.num_classes, found.num_examples, model.num_features) == (3, 60, 32)


def test_a_body_that_says_nothing_comes_last(base: Path, data: TextDataset, tmp_path: Path) -> None:
    dull = shutil.copytree(base, tmp_path / "dull")
    weights = {name: values * 1e-4 if "word_emb" in name else values for name, values in
               load_file(dull / "model.safetensors").items()}  # fmt: skip
    save_file(weights, dull / "model.safetensors", metadata={"format": "pt"})
    found = coldfuse.rank([dull, base], data, seeds=(0, 1), examples=45)
    assert [model.model for model in found.models] == [base.name, "dull"]
    assert [len(score.values) for score in found.models[0].scores if score.mean is not None] == [2] * 5
    assert len(found.agreement) == 10


@pytest.mark.parametrize("num_labels", [2, 7])
def test_a_head_of_the_models_own_is_asked(base: Path, data: TextDataset, tmp_path: Path, num_labels: int) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = with_head(base, tmp_path / "model", num_labels=num_labels)
    [model] = coldfuse.rank([folder], data, scores=["leep", "nce"]).models
    encoded = AutoTokenizer.from_pretrained(folder)(list(data.texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        said = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**encoded).logits.softmax(dim=1)
    wanted = leep(said.numpy(), data.labels), nce(said.numpy().argmax(axis=1), data.labels)
    assert [score.mean for score in model.scores] == pytest.approx(wanted, abs=1e-5)


def test_a_head_that_a_node_keeps_is_asked(base: Path, data: TextDataset, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    save_head(folder / "head.safetensors", LinearHead(weight=weight, bias=torch.zeros(4)), ["a", "b", "c", "d"])
    [model] = coldfuse.rank([folder], data, scores=["leep", "nce"]).models
    assert all(score.mean is not None and score.mean < 0 for score in model.scores)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"num_labels": 1}, "predicts one number"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "each label by itself"),
    ],
)
def test_heads_without_classes_have_no_leep(
    base: Path, data: TextDataset, tmp_path: Path, config: dict[str, object], why: str
) -> None:
    [model] = coldfuse.rank([with_head(base, tmp_path / "model", **config)], data, scores=["leep"]).models
    assert why in (model.scores[0].why_not or "")


def test_a_head_that_is_named_but_not_there_has_no_leep(base: Path, data: TextDataset, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    [model] = coldfuse.rank([folder], data, scores=["nce"]).models
    assert "have no classifier" in (model.scores[0].why_not or "")


def test_deltas_and_releases_are_ranked_as_the_models_that_they_make(
    base: Path, data: TextDataset, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other", seed=9)
    delta = coldfuse.fuse(base, [other], out=tmp_path / "delta.safetensors", kind="delta").path
    store = LocalStore(tmp_path / "store")
    create_federation(store, name="tiny", base=other, origin="tiny", method="mean", rules={})
    release = f"{tmp_path / 'store'}@0"
    found = coldfuse.rank([other, delta, release], data, base=base, scores=["logme", "knn"])
    means = [[score.mean for score in model.scores] for model in found.models]
    assert means[1] == pytest.approx(means[0], abs=1e-5)
    assert means[2] == pytest.approx(means[0], abs=1e-5)
    with pytest.raises(UserInputError, match="--base"):
        coldfuse.rank([delta], data)


def test_numbers_are_ranked_by_logme_alone(base: Path, data: TextDataset, tmp_path: Path) -> None:
    file = write_data(tmp_path / "data.jsonl", data)
    found = json.loads(
        command("rank", base, "--data", file, "--task", "regression", "--column", "label=score", "--json")
    )
    assert [score["name"] for score in found["models"][0]["scores"]] == ["logme"]
    assert found["num_classes"] is None


def test_the_command_shows_scores_agreement_and_cost(base: Path, data: TextDataset, tmp_path: Path) -> None:
    file = write_data(tmp_path / "data.jsonl", data)
    other = write_tiny_model(tmp_path / "other", seed=4, hidden_size=16, num_layers=1)
    text = command("rank", base, other, "--data", file, "--proxy", file, "--examples", 40)
    for word in ("proxy", "place", "parameters", "tau", "weighted", "needs one pass of the body", "other: no leep"):
        assert word in text, word


def bad_models(base: Path, folder: Path) -> dict[str, Path]:
    broken = shutil.copytree(base, folder / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    return {"broken": broken, "missing": folder / "nowhere"}


@pytest.mark.parametrize(("name", "word"), [("broken", "not finite"), ("missing", "no such folder")])
def test_a_model_that_cannot_be_scored_is_named(
    base: Path, data: TextDataset, tmp_path: Path, name: str, word: str
) -> None:
    bad = bad_models(base, tmp_path)[name]
    with pytest.raises(UserInputError, match=word) as caught:
        coldfuse.rank([base, bad], data)
    assert bad.name in str(caught.value)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"examples": 1}, "expected 2 or more"),
        ({"seeds": (1, 1)}, "different numbers"),
        ({"seeds": ()}, "different numbers"),
        ({"scores": ["proxy"]}, "--proxy"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    base: Path, data: TextDataset, options: dict[str, object], word: str
) -> None:
    with pytest.raises(UserInputError, match=word):
        coldfuse.rank([base], data, **options)
    with pytest.raises(UserInputError, match="named twice"):
        coldfuse.rank([base, base], data)


def test_one_class_has_no_score_and_says_why(base: Path, data: TextDataset) -> None:
    one = TextDataset(texts=data.texts, labels=(0,) * 60, label_names=("good", "bad"))
    [model] = coldfuse.rank([base], one).models
    why = {score.name: score.why_not for score in model.scores}
    assert "one class" in (why["logme"] or "")
    assert model.place is None


def test_rare_classes_are_told_of(base: Path, data: TextDataset) -> None:
    rare = TextDataset(texts=data.texts, labels=(0, 1) * 29 + (0, 2), label_names=("a", "b", "c", "d"))
    notes = " ".join(coldfuse.rank([base], rare, scores=["knn"]).notes)
    assert "1 of 4 classes have one example" in notes
    assert "1 of 4 classes have no example" in notes


def test_words_that_the_model_does_not_know_are_read_too(base: Path) -> None:
    odd = TextDataset(texts=("…", "ж ж", "", "good") * 4, labels=(0, 1, 0, 1) * 4, label_names=("a", "b"))
    [model] = coldfuse.rank([base], odd).models
    assert model.place == 1.0
