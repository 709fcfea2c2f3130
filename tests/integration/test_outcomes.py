"""Scores of single examples, of every kind of task, and the perplexity of documents."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_pictures import write_pictures, write_seeing_model
from tiny_texts import PROVERBS, rows_of, write_json_lines, write_text_model

from coldfuse import evaluate
from coldfuse.evaluation.values import TestScore


def kept(work: Path) -> list[TestScore]:
    """The scores of the trials in a work folder."""
    files = sorted((work / "trials").iterdir())
    documents = [json.loads(path.read_bytes().partition(b"\n")[2]) for path in files]
    return [TestScore.model_validate(score) for document in documents for score in document["scores"]]


@pytest.mark.parametrize(
    "task", ["multi-label-classification", "regression", "token-classification", "question-answering"]
)
def test_every_example_of_a_task_has_a_score_of_its_own(task: str, tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model", "bert")
    data = write_json_lines(tmp_path / "data.jsonl", rows_of(task))
    found = evaluate(model, data, task=task, work=tmp_path / "work")
    [score] = kept(tmp_path / "work")
    assert score.outcomes is not None
    assert len(score.outcomes) == found.data[0].num_test == 10
    assert all(-1 <= outcome <= 1 for outcome in score.outcomes)
    if task == "question-answering":  # the metric is their mean
        assert score.value == pytest.approx(sum(score.outcomes) / 10)


def test_pictures_are_right_or_wrong(tmp_path: Path) -> None:
    model, data = (
        write_seeing_model(tmp_path / "model", "ViTForImageClassification"),
        write_pictures(tmp_path / "pictures", num=10),
    )
    found = evaluate(model, data, task="image-classification", work=tmp_path / "work")
    [score] = kept(tmp_path / "work")
    assert score.outcomes is not None
    assert set(score.outcomes) <= {0.0, 1.0}
    assert found.scores[0].mean == pytest.approx(sum(score.outcomes) / len(score.outcomes))


def test_a_document_longer_than_the_window_goes_on_in_another(tmp_path: Path) -> None:
    import transformers

    folder = write_text_model(tmp_path / "writer", "gpt2")
    texts = ["A stitch in time.", " ".join(PROVERBS[:6]), "Time."]
    data = write_json_lines(tmp_path / "data.jsonl", [{"text": text} for text in texts])
    found = evaluate(folder, data, task="text-generation", max_length=16, work=tmp_path / "work")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sums, count = [], 0
    for text in texts:
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        total = 0.0
        for start in range(0, len(ids) - 1, 15):  # a window repeats the last token of the one before
            window = torch.tensor([ids[start : start + 16]])
            with torch.no_grad():
                logits = model(window).logits[0, :-1].log_softmax(-1)
            total += float(logits.gather(1, window[0, 1:, None]).sum())
            count += window.shape[1] - 1
        sums.append(total)
    [score] = kept(tmp_path / "work")
    assert score.outcomes == pytest.approx(sums, rel=1e-4)
    assert found.scores[0].mean == pytest.approx(math.exp(-sum(sums) / count), rel=1e-4)
    assert any("1 of 3 documents are longer than the window of 16 tokens" in note for note in found.notes)
    assert any(f"{count} tokens predicted" in note for note in found.notes)


def test_hidden_words_are_the_same_for_every_model(tmp_path: Path) -> None:
    models = [write_text_model(tmp_path / name, "bert", seed=seed) for seed, name in enumerate("ab")]
    data = write_json_lines(tmp_path / "data.jsonl", [{"text": text} for text in PROVERBS])
    found = evaluate(models, data, task="fill-mask", work=tmp_path / "work")
    counts = [note.rpartition(": ")[2] for note in found.notes if "predicted" in note]
    assert len(counts) == 2
    assert len(set(counts)) == 1
    assert found.data[0].num_test == len(PROVERBS)
    assert found.comparisons[0].num_examples == len(PROVERBS)


def test_weights_that_are_no_numbers_have_no_perplexity(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from coldfuse import UserInputError

    folder = write_text_model(tmp_path / "writer", "gpt2")
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.mlp.c_fc.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    data = write_json_lines(tmp_path / "data.jsonl", [{"text": text} for text in PROVERBS])
    with pytest.raises(UserInputError, match=r"writer on .*, perplexity: .*not finite"):
        evaluate(folder, data, task="text-generation", work=tmp_path / "work")
