"""Heads of other tasks: of other sizes, for other labels, in models and in adapters; each is said, none averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedModel

from coldfuse import fuse
from coldfuse.core.left_out import LeftOut

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT and transformers deprecate each other

SEQUENCES = "BertForSequenceClassification"
MOODS = {0: "bad", 1: "fine", 2: "good"}
TURNED = {0: "good", 1: "fine", 2: "bad"}
HEAD = ["classifier.bias", "classifier.weight"]


def model(kind: str, seed: int, num_labels: int = 3, labels: dict[int, str] | None = None) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        num_labels=num_labels, **({"id2label": labels} if labels else {}),
    )  # fmt: skip
    return getattr(transformers, kind)(config)


def save(path: Path, made: PreTrainedModel) -> Path:
    made.save_pretrained(path)
    return path


def said(items: tuple[LeftOut, ...], about: str) -> list[str]:
    return sorted(name for item in items if about in item.why for name in item.names)


def fused(base: Path, other: Path) -> tuple[tuple[LeftOut, ...], bool]:
    """Return what is left out, and whether the base's head stayed as it was."""
    out = base.parent / f"{other.name} fused"
    left_out = fuse(base, [other], out=out).left_out
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    assert not before["bert.encoder.layer.0.output.dense.weight"].equal(
        after["bert.encoder.layer.0.output.dense.weight"]
    )
    return left_out, all(before[name].equal(after[name]) for name in HEAD)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [(SEQUENCES, TURNED), (SEQUENCES, {0: "a", 1: "b", 2: "c"}), ("BertForTokenClassification", None)],
)
def test_a_head_of_the_same_shape_for_other_labels_is_another_tasks(
    kind: str, labels: dict[int, str] | None, tmp_path: Path
) -> None:
    base = save(tmp_path / "base", model(SEQUENCES, 0, labels=MOODS))
    left_out, is_kept = fused(base, save(tmp_path / "other", model(kind, 1, labels=labels)))
    assert said(left_out, "another task's head") == HEAD
    assert is_kept


def test_a_head_for_the_same_labels_or_labels_without_names_is_fused(tmp_path: Path) -> None:
    base = save(tmp_path / "base", model(SEQUENCES, 0, labels=MOODS))
    for name, labels in (("same", {n: label.title() for n, label in MOODS.items()}), ("unnamed", None)):
        left_out, is_kept = fused(base, save(tmp_path / name, model(SEQUENCES, 1, labels=labels)))
        assert (left_out, is_kept) == ((), False)


def test_labels_that_the_base_does_not_name_are_said(tmp_path: Path) -> None:
    base = save(tmp_path / "base", model(SEQUENCES, 0))
    left_out, is_kept = fused(base, save(tmp_path / "other", model(SEQUENCES, 1, labels=MOODS)))
    assert (said(left_out, "row by row"), is_kept) == (["id2label"], False)


@pytest.mark.parametrize("num_labels", [3, 5])
def test_an_adapters_head_of_another_shape_is_another_tasks(num_labels: int, tmp_path: Path) -> None:
    base = save(tmp_path / "base", model(SEQUENCES, 0))
    settings = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["dense"], init_lora_weights=False)
    tuned = get_peft_model(model(SEQUENCES, 1, num_labels), settings)
    tuned.save_pretrained(str(tmp_path / "adapter"))
    left_out, is_kept = fused(base, tmp_path / "adapter")
    assert (said(left_out, "another task's head") == HEAD, is_kept) == ((num_labels == 5,) * 2)
