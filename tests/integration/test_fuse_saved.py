"""Fusing what `save_pretrained` writes with bases that store more than it: buffers, and copies of tied weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import run_coldfuse
from safetensors.torch import load_file, save_file

from coldfuse.experiments.demo import bundled_base
from coldfuse.tensors.checkpoint import open_checkpoint

BUFFER, CHANGED = "embeddings.position_ids", "encoder.layer.0.output.dense.bias"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What transformers makes of the demo's base, after a training that changed one tensor."""
    from transformers import AutoModel

    body = AutoModel.from_pretrained(bundled_base())
    with torch.no_grad():
        dict(body.named_parameters())[CHANGED].add_(1.0)
    body.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_buffer_that_transformers_leaves_out_is_in_nobodys_way(saved: Path, tmp_path: Path) -> None:
    base = bundled_base()
    stored = open_checkpoint(base).schema.keys()
    assert BUFFER in stored - open_checkpoint(saved).schema.keys()
    run_coldfuse("fuse", base, saved, "--out", tmp_path / "out").succeed()
    made, before = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    assert {name for name in stored if not torch.equal(made[name], before[name])} == {CHANGED}
    run_coldfuse("fuse", saved, base, "--out", tmp_path / "back").succeed()
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == stored - {BUFFER}
    assert torch.equal(back[CHANGED], before[CHANGED])


@pytest.mark.parametrize("method", ["mean", "dare"])
def test_a_head_that_transformers_leaves_out_follows_the_embedding(tmp_path: Path, method: str) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {HEAD: tensors[EMBEDDING].clone()}, file, metadata={"format": "pt"})
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    model.save_pretrained(tmp_path / "saved")
    assert HEAD not in open_checkpoint(tmp_path / "saved").schema
    command = ("fuse", tmp_path / "base", tmp_path / "saved", "--method", method, "--out", tmp_path / "out")
    run_coldfuse(*command).succeed()
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(made[HEAD], made[EMBEDDING])
    assert not torch.equal(made[HEAD], tensors[EMBEDDING])
    fused = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(fused.get_output_embeddings().weight, made[EMBEDDING])
