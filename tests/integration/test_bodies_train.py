"""Real training on tiny random models of many architectures: each trains, or is refused in one line beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bodies import DECODERS, ENCODERS, OTHERS, write_architecture
from integration.training_process import SETTINGS, job
from tiny_pictures import write_image_processor

from coldfuse.errors import UserInputError
from coldfuse.training import intake
from coldfuse.training.check import check_base
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned
from coldfuse.training.loading import load_body
from coldfuse.training.model import shared_tensors

BRIEF = replace(SETTINGS, num_epochs=1, checkpoint_every_s=1e6, batch_size=32)


def train(base: Path) -> tuple[FineTuned, list[float]]:
    losses: list[float] = []
    made = fine_tune(job(base), BRIEF, progress=lambda now: losses.append(now.loss) if now.loss is not None else None)
    assert isinstance(made, FineTuned)
    return made, losses


def assert_trains(base: Path) -> None:
    before = {name: t.clone() for name, t in shared_tensors(load_body(base), job(base).schema_names).items()}
    made, losses = train(base)
    assert len(losses) == 2
    assert torch.tensor(losses).isfinite().all()
    moved = [name for name, tensor in made.tensors.items() if not torch.equal(tensor, before[name])]
    assert len(moved) > len(before) / 3
    assert all(tensor.isfinite().all() for tensor in made.tensors.values())


@pytest.mark.parametrize("name", ENCODERS | DECODERS)
def test_it_trains(tmp_path: Path, name: str) -> None:
    base = write_architecture(tmp_path / "base", name)
    assert check_base(base).obstacle is None
    assert_trains(base)


@pytest.mark.parametrize("name", ["DeBERTa", "X-MOD", "BERT"])
def test_where_bf16_fails_it_trains_in_float32(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfuse.training.compute.computes_bf16", lambda _: True)
    monkeypatch.setattr(intake, "computes_bf16", lambda _: True)
    kept: list[torch.nn.Module] = []
    real = intake.keep_float32
    monkeypatch.setattr(intake, "keep_float32", lambda body: kept.append(body) or real(body))
    assert_trains(write_architecture(tmp_path / "base", name))
    assert len(kept) == (name != "BERT")


@pytest.mark.parametrize(
    ("name", "node", "operator"),
    [
        ("T5", "T5Model is an encoder-decoder; expected an encoder such as BERT or RoBERTa", "decoder_start_token_id"),
        ("BART", "BartModel is an encoder-decoder", ""),
        ("ViT", "ViTModel takes pixel_values, expected a model of texts", "no image processor in it"),
        ("wav2vec 2.0", "Wav2Vec2Model takes input_values, expected a model of texts", "and no task reads such data"),
        ("CLIP", "CLIPModel failed on a batch of 1×", "no image processor in it"),
        ("TAPAS", "TapasModel failed on a batch of 1×", "TapasModel failed on a batch of 1×"),
    ],
)
def test_it_is_refused_in_one_line_by_operator_and_node(tmp_path: Path, name: str, node: str, operator: str) -> None:
    assert name in OTHERS
    base = write_architecture(tmp_path / "base", name)
    found = check_base(base)
    with pytest.raises(UserInputError) as caught:
        train(base)
    assert node in str(caught.value)
    assert "\n" not in str(caught.value)
    if operator:
        assert found.obstacle is not None
        assert operator in found.obstacle
        assert "\n" not in found.obstacle
    else:
        assert "reads and writes texts (text2text-generation); trained on two examples, it works" in found.finding


@pytest.mark.parametrize(("name", "reads"), [("ViT", "pictures"), ("CLIP", "pictures and texts")])
def test_what_reads_pictures_is_tried_on_pictures(tmp_path: Path, name: str, reads: str) -> None:
    base = write_image_processor(write_architecture(tmp_path / "base", name), size=16)
    found = check_base(base)
    assert found.finding.startswith(f"{name}Model reads {reads} (")
    assert found.finding.endswith("; trained on two examples, it works")
    (base / "tokenizer.json").unlink()
    assert check_base(base, has_tokenizer=False).obstacle is None
