"""A folder whose files lack the model's tensors, or call them otherwise: random numbers get no score."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model
from tiny_texts import write_text_model

from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.training.classifying import load_classifier
from coldfuse.training.loading import load_body, load_with_head
from coldfuse.training.settings import TrainingSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def rename(folder: Path, to: Callable[[str], str | None]) -> None:
    """Write a model's file anew, each tensor by another name, or not at all."""
    path = folder / "model.safetensors"
    found = {new: tensor for name, tensor in load_file(path).items() if (new := to(name)) is not None}
    save_file(found, path, metadata={"format": "pt"})


def test_other_names_are_no_model(folder: Path) -> None:
    rename(folder, lambda name: f"my.own.{name}")
    said = r"lack 37 of 37 tensors of BertModel, such as embeddings\.\S+; they have others, such as my\.own\."
    with pytest.raises(UserInputError, match=said):
        load_body(folder)
    with pytest.raises(UserInputError, match="lack 37 of 37 tensors"):
        load_classifier(folder, num_outputs=2, settings=TrainingSettings())


def test_a_lacking_layer_is_refused_where_a_model_is_scored_and_said_where_it_is_trained(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rename(folder, lambda name: None if "layer.1." in name else name)
    with pytest.raises(UserInputError, match=r"lack 16 of 37 tensors of BertModel, such as encoder\.layer\.1\."):
        load_body(folder)
    with caplog.at_level(logging.WARNING):
        load_classifier(folder, num_outputs=2, settings=TrainingSettings())
    assert "those begin as random numbers, and do not travel" in caplog.text


def test_what_nobody_asks_for_may_be_lacking(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = load_body(folder)
    rename(folder, lambda name: None if name.startswith("pooler") else f"bert.{name}")
    with caplog.at_level(logging.WARNING):
        found = load_body(folder)
    assert not caplog.text
    assert all(torch.equal(p, whole.get_parameter(n)) for n, p in found.named_parameters() if "pooler" not in n)


def test_a_model_one_folder_further_in_is_named(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "sentences" / "0_Transformer")  # as older sentence-transformers write it
    with pytest.raises(UserInputError, match=r"0_Transformer in it has one: name .*/sentences/0_Transformer"):
        load_body(tmp_path / "sentences")


def test_a_file_that_is_cut_short_is_said(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ColdfuseError, match="it is cut short: copy or fetch it anew"):
        load_body(folder)


@pytest.mark.parametrize(
    ("kind", "auto_class"),
    [
        ("headless bert", "AutoModelForTokenClassification"),
        ("gpt2", "AutoModelForCausalLM"),
        ("llama", "AutoModelForCausalLM"),
        ("t5", "AutoModelForSeq2SeqLM"),
        ("bart", "AutoModelForSeq2SeqLM"),
    ],
)
def test_models_with_heads_are_known_by_their_body(
    tmp_path: Path, kind: str, auto_class: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_text_model(tmp_path / "model", kind)
    with caplog.at_level(logging.WARNING):
        load_with_head(folder, auto_class)  # a new head is no lack
    assert not caplog.text
    rename(folder, lambda name: f"my.own.{name}")
    with pytest.raises(UserInputError, match="such as my"):
        load_with_head(folder, auto_class)
