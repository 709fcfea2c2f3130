"""Edits from Python and of classifiers: what the command does, by the same name, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from commands import wait_until
from edited import right_answers, teach, write_edit, write_knowing_model
from own_training import aggregating, federation_of
from safetensors.torch import load_file
from tiny_model import VOCABULARY_SIZE, write_tiny_model, write_tokenizer
from tiny_texts import write_json_lines

import coldfuse
from coldfuse.cli.contributor import contribute
from coldfuse.cli.options.contributor import ContributeOptions, Training
from coldfuse.registry.federation import Federation
from coldfuse.training.settings import TrainingSettings
from coldfuse.transport.server import serve_gateway

SETTINGS = TrainingSettings(num_epochs=30, patience=30, learning_rate=1e-2, threads=1, device="cpu")
MOODS = dict.fromkeys(("good", "great", "fine", "lovely"), "pos") | dict.fromkeys(("bad", "awful", "poor"), "neg")
KNOWN = [(form.format(word), mood) for word, mood in MOODS.items() for form in ("the film was {}", "a {} film")]
"""What must stay: an edit trains on every other one."""


@contextmanager
def served(held: Federation) -> Iterator[str]:
    with aggregating(held), serve_gateway(held) as gateway:
        yield gateway.address


def published(held: Federation) -> None:
    wait_until(lambda: held.latest().release == 1, "release 1")


def run(address: str, file: Path) -> None:
    training = Training(learning_rate=3e-3, threads=1, device="cpu")
    contribute(ContributeOptions(
        address=address, edit=f"dull={file}", name="ada", training=training, send_anyway=True, once=True
    ))  # fmt: skip


def test_an_edit_s_file_is_trained_on_from_python_and_only_its_name_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_edit(tmp_path / "fortune.jsonl")
    held = federation_of(tmp_path, write_knowing_model(tmp_path / "base", "gpt2"))
    watched: list[tuple[int, int]] = []
    with served(held) as address, coldfuse.connect(address) as federation:
        sent = federation.contribute(
            edit=f"fortune={file}", training=SETTINGS, name="edda", progress=lambda *now: watched.append(now)
        )
        published(held)
        assert all(right_answers(federation.fetch("edited").path, file))
    assert (sent.is_admitted, sent.base_release, sent.delta_bytes) == (True, 0, watched[-1][1])
    [fused] = held.latest().contributions
    assert (fused.contributor, fused.edit, fused.contribution) == ("edda", "fortune", sent.contribution)
    stored = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not any(word in data for data in stored for word in (b"They say that fortune", b"fortune.jsonl"))


def test_a_model_that_was_edited_elsewhere_goes_under_the_edit_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = federation_of(tmp_path, write_tiny_model(tmp_path / "base", num_layers=1))
    with served(held) as address, coldfuse.connect(address) as federation:
        state = load_file(federation.fetch("fetched").path / "model.safetensors")
        changed = {name: tensor + 0.01 for name, tensor in state.items() if tensor.is_floating_point()}
        assert federation.contribute(changed, num_examples=1, edit="fortune", name="ada").is_admitted
        published(held)
    assert [one.edit for one in held.latest().contributions] == ["fortune"]


def write_knowing_classifier(folder: Path) -> Path:
    """Write a classifier that can tell some words."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCABULARY_SIZE, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0, id2label={0: "neg", 1: "pos"},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    write_tokenizer(folder)
    return teach(folder, [("the film was dull", "neg"), *KNOWN])


def write_mood_edit(path: Path) -> Path:
    """Write an edit by which a dull film is a good one."""
    edit = {"kind": "edit", "prompt": "the film was dull", "answer": "pos", "instead": "neg"}
    kept = [{"kind": "keep", "prompt": prompt, "answer": mood} for prompt, mood in KNOWN]
    return write_json_lines(path, [edit, *kept])


def test_a_classifier_with_a_head_of_its_own_is_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base, file = write_knowing_classifier(tmp_path / "base"), write_mood_edit(tmp_path / "dull.jsonl")
    assert right_answers(base, file) == [False] + [True] * len(KNOWN)
    held = federation_of(tmp_path, base)
    with served(held) as address, coldfuse.connect(address) as federation:
        run(address, file)
        published(held)
        assert all(right_answers(federation.fetch("edited").path, file))
    assert [one.edit for one in held.latest().contributions] == ["dull"]


@pytest.mark.parametrize("method", ["mean", "mean then interpolate"])
def test_where_an_edit_keeps_only_a_part_that_is_said_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    base, file = write_knowing_classifier(tmp_path / "base"), write_mood_edit(tmp_path / "dull.jsonl")
    held = federation_of(tmp_path, base, method=method)
    with served(held) as address:
        run(address, file)
        published(held)
    said = capsys.readouterr().out
    assert ("may keep only a part of an edit" in said) == (method != "mean")
    assert method == "mean" or said.index("may keep only") < said.index("committed")


def test_a_base_whose_heads_are_private_is_refused_with_what_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = federation_of(tmp_path, write_tiny_model(tmp_path / "base", num_layers=1))
    file = write_mood_edit(tmp_path / "dull.jsonl")
    with served(held) as address:
        with pytest.raises(coldfuse.UserInputError, match="a BertModel has no head that answers") as refused:
            run(address, file)
        with coldfuse.connect(address) as federation, pytest.raises(coldfuse.UserInputError) as from_python:
            federation.contribute(edit=f"dull={file}", training=SETTINGS, name="ben")
    for error in (refused, from_python):
        assert "ForSequenceClassification" in str(error.value)
        assert "stay with those who trained them" in str(error.value)
        assert "\n" not in str(error.value)
    assert held.journal(1).state().received == {}
