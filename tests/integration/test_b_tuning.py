"""The ensemble teacher of B-tuning: what it says, and that a Trainer learns from it as the module's text shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import write_tiny_model
from torch.nn.functional import mse_loss

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.evaluation.b_tuning import Teaching, teach
from coldfuse.training.encoding import encode_all, tokenize
from coldfuse.training.evidence import linear_models
from coldfuse.training.intake import find_intake
from coldfuse.training.learnt import targets_of
from coldfuse.training.loading import load_body, load_tokenizer

WORDS = (("good", "great", "fine"), ("bad", "awful", "poor"))


@pytest.fixture(scope="module")
def data() -> TextDataset:
    random = np.random.default_rng(0)
    labels = tuple(index % 2 for index in range(48))
    texts = tuple(" ".join([*random.choice(WORDS[label], 2), *random.choice(["was", "film"], 2)]) for label in labels)
    return TextDataset(texts=texts, labels=labels, label_names=("yes", "no"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {
        name: write_tiny_model(place / name, seed=seed, hidden_size=size)
        for seed, (name, size) in enumerate({"base": 32, "one": 32, "wide": 64}.items())
    }


def features_of(folder: Path, data: TextDataset) -> np.ndarray:
    body, tokenizer = load_body(folder), load_tokenizer(folder)
    return encode_all(body, tokenize(tokenizer, data, find_intake(body, tokenizer, max_length=128))).double().numpy()


def test_one_teacher_says_what_its_own_linear_model_does(models: dict[str, Path], data: TextDataset) -> None:
    teaching = teach(models["base"], {"one": models["one"]}, data)
    own = features_of(models["one"], data)
    np.testing.assert_allclose(teaching.targets, own @ linear_models(own, targets_of(data.labels).T)[1].T, atol=1e-5)
    assert teaching.shares == {"one": 1.0}
    right = (teaching.targets.argmax(dim=1).numpy() == np.array(data.labels)).mean()
    assert right > 0.9


def test_teachers_of_any_width_count_by_their_evidence(models: dict[str, Path], data: TextDataset) -> None:
    teachers = {name: models[name] for name in ("one", "wide")}
    both, sharp = (teach(models["base"], teachers, data, temperature=t) for t in (0.1, 1e-4))
    alone = {name: teach(models["base"], {name: folder}, data).targets for name, folder in teachers.items()}
    mixed = sum(both.shares[name] * alone[name] for name in teachers)
    torch.testing.assert_close(both.targets, mixed)
    assert sum(both.shares.values()) == pytest.approx(1.0)
    assert max(sharp.shares.values()) > max(both.shares.values())


def test_a_trainer_learns_from_the_teachers(models: dict[str, Path], data: TextDataset, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    # What the narrow base cannot say before it is tuned, and the wide teacher can.
    odd = TextDataset(texts=data.texts, labels=tuple(index // 3 % 2 for index in range(48)), label_names=("yes", "no"))
    base = write_tiny_model(tmp_path / "narrow", seed=7, hidden_size=8, num_layers=1)
    teaching = teach(base, {"wide": models["wide"]}, odd)
    encoded = AutoTokenizer.from_pretrained(base)(list(odd.texts), padding=True)
    rows = [
        {"targets": target.tolist(), "labels": label, **{name: encoded[name][i] for name in encoded}}
        for i, (target, label) in enumerate(zip(teaching.targets, odd.labels, strict=True))
    ]

    class Taught(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **more):
            targets = inputs.pop("targets")
            outputs = model(**inputs, output_hidden_states=True)
            mask = inputs["attention_mask"].unsqueeze(-1)
            features = (outputs.hidden_states[-1] * mask).sum(1) / mask.sum(1)
            loss = outputs.loss + 100 * mse_loss(teaching.say(features), targets)
            return (loss, outputs) if return_outputs else loss

    model = AutoModelForSequenceClassification.from_pretrained(
        base, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=10, learning_rate=3e-3, report_to="none", save_strategy="no",
        remove_unused_columns=False, disable_tqdm=True, seed=0, use_cpu=True,
    )  # fmt: skip
    before = distance(base, odd, teaching)
    Taught(model=model, args=arguments, train_dataset=rows).train()
    model.base_model.save_pretrained(tmp_path / "tuned")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "tuned")
    assert distance(tmp_path / "tuned", odd, teaching) < before * 0.8


def distance(folder: Path, data: TextDataset, teaching: Teaching) -> float:
    said = teaching.say(torch.from_numpy(features_of(folder, data)).float())
    return float(mse_loss(said, teaching.targets))


@pytest.mark.parametrize(("teachers", "temperature"), [((), 0.1), (("one",), 0.0), (("one",), float("nan"))])
def test_no_teacher_and_no_temperature_are_refused(
    models: dict[str, Path], data: TextDataset, teachers: tuple[str, ...], temperature: float
) -> None:
    with pytest.raises(UserInputError, match="expected one or more"):
        teach(models["base"], {name: models[name] for name in teachers}, data, temperature=temperature)


def test_a_class_that_does_not_occur_is_refused(models: dict[str, Path], data: TextDataset) -> None:
    more = TextDataset(texts=data.texts, labels=data.labels, label_names=("yes", "no", "never"))
    with pytest.raises(UserInputError, match="1 of 3 classes"):
        teach(models["base"], {"one": models["one"]}, more)
