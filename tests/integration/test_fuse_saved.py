"""Fusing what `save_pretrained` writes with bases that store more than it: buffers that are no weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import run_coldfuse
from safetensors.torch import load_file

from coldfuse.codec.model_folder import open_model_folder
from coldfuse.experiments.demo import bundled_base

BUFFER, CHANGED = "embeddings.position_ids", "encoder.layer.0.output.dense.bias"


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
    stored = open_model_folder(base).schema.keys()
    assert BUFFER in stored - open_model_folder(saved).schema.keys()
    run_coldfuse("fuse", base, saved, "--out", tmp_path / "out").succeed()
    made, before = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    assert {name for name in stored if not torch.equal(made[name], before[name])} == {CHANGED}
    run_coldfuse("fuse", saved, base, "--out", tmp_path / "back").succeed()
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == stored - {BUFFER}
    assert torch.equal(back[CHANGED], before[CHANGED])
