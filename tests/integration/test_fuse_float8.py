"""FP8 models with scales as `coldfuse.fuse` reads them, and transformers what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from float8_models import BLOCKS, quantise, write
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

import coldfuse
from coldfuse.cli.main import app

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own

MODEL = "model.safetensors"
ROWS = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {}}
SAYS = "read with their scales, written in BF16"


def is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("float8") / "original"
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=40, hidden_size=24, intermediate_size=36, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=12, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def in_blocks(original: Path, folder: Path) -> tuple[Path, dict[str, Tensor]]:
    def one(weight: Tensor) -> list[Tensor]:
        rows, columns = weight.shape
        return quantise(weight, -(-rows // 4), -(-columns // 8), block=(4, 8))

    return in_fp8(original, folder, one, "_scale_inv", BLOCKS)


def in_rows(original: Path, folder: Path) -> tuple[Path, dict[str, Tensor]]:
    return in_fp8(original, folder, lambda w: quantise(w, len(w), 1, block=(1, w.shape[1])), "_scale", ROWS)


def in_fp8(
    original: Path, folder: Path, one: Callable[[Tensor], list[Tensor]], end: str, settings: object
) -> tuple[Path, dict[str, Tensor]]:
    """Write a model in FP8, and return it with what its tensors are."""
    stored, meant = {}, {}
    for name, tensor in load_file(original / MODEL).items():
        stored[name] = meant[name] = tensor
        if is_linear(name):
            stored[name], stored[name + end], meant[name] = one(tensor.float())
    config = json.loads((original / "config.json").read_text())
    return write(folder, {MODEL: stored}, config | {"quantization_config": settings}), meant


Write = Callable[[Path, Path], tuple[Path, dict[str, Tensor]]]


@pytest.mark.parametrize("make", [in_blocks, in_rows])
def test_an_adapter_and_a_fine_tuned_model_fuse_on_an_fp8_base(original: Path, tmp_path: Path, make: Write) -> None:
    base, meant = make(original, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(original, dtype=torch.bfloat16)
    model.load_state_dict(meant)
    torch.manual_seed(1)
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, lora)
    adapted.save_pretrained(tmp_path / "lora")
    merged = {name: tensor.float() for name, tensor in adapted.merge_and_unload().float().state_dict().items()}
    tuned = {name: tensor + torch.randn_like(tensor) / 64 for name, tensor in meant.items()}
    write(tmp_path / "tuned", {MODEL: tuned}, json.loads((original / "config.json").read_text()))
    fused = coldfuse.fuse(base, [tmp_path / "lora", tmp_path / "tuned"], out=tmp_path / "out")
    assert fused.left_out[0].names == ("quantization_config",)
    assert SAYS in repr(fused)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert loaded.dtype == torch.bfloat16
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor.float(), (merged[name] + tuned[name].float()) / 2, rtol=2**-7, atol=1e-3)


def test_a_model_in_fp8_fuses_on_a_base_of_floats(original: Path, tmp_path: Path) -> None:
    model, meant = in_rows(original, tmp_path / "model")
    fused = coldfuse.fuse(original, [model], out=tmp_path / "out")
    assert f"{model}: quantization_config (the weights are in FP8" in repr(fused)
    made = load_file(tmp_path / "out" / MODEL)
    assert made.keys() == meant.keys()
    assert all(torch.equal(made[name], meant[name]) for name in meant)


def test_an_fp8_base_alone_becomes_the_model_in_bf16(original: Path, tmp_path: Path) -> None:
    base, meant = in_blocks(original, tmp_path / "base")
    write(tmp_path / "plain", {MODEL: meant}, {})
    fused = coldfuse.fuse(base, [base], out=tmp_path / "out")
    assert all(torch.equal(tensor, meant[name]) for name, tensor in load_file(tmp_path / "out" / MODEL).items())
    again = coldfuse.fuse(tmp_path / "plain", [tmp_path / "plain"], out=tmp_path / "plainly")
    assert fused.digest == again.digest
    assert fused.moved == 0


def test_a_delta_on_an_fp8_base_is_one_on_the_model_in_bf16(original: Path, tmp_path: Path) -> None:
    base, meant = in_blocks(original, tmp_path / "base")
    write(tmp_path / "plain", {MODEL: meant}, json.loads((original / "config.json").read_text()))
    delta = tmp_path / "delta.safetensors"
    made = coldfuse.fuse(base, [original], out=delta, kind="delta")
    assert "read with their scales, as BF16" in repr(made)
    digests = {coldfuse.fuse(of, [delta], out=tmp_path / f"out_{of.name}").digest for of in (base, tmp_path / "plain")}
    assert len(digests) == 1


def test_the_command_says_it_in_text_plan_and_json(original: Path, tmp_path: Path) -> None:
    base, _ = in_blocks(original, tmp_path / "base")
    for number, options in enumerate(([], ["--plan"], ["--json"], ["--json", "--plan"], ["--shard-size", "4KB"])):
        words = ["fuse", str(base), str(original), "--out", str(tmp_path / f"out{number}"), *options]
        shown = CliRunner().invoke(app, words)
        assert shown.exit_code == 0, shown.output
        assert SAYS in shown.stdout
        assert "_proj.weight_scale_inv" in shown.stdout
    index = json.loads((tmp_path / "out4" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == load_file(original / MODEL).keys()
