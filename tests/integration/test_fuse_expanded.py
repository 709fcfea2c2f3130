"""Fusing adapters that PEFT expands: the same model as PEFT's, and nothing is left beside it."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from commands import run_coldfuse
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model

import coldfuse
from coldfuse.api.models import open_finetuned
from coldfuse.errors import MissingExtraError, SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own

QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(base, peft.HRAConfig(r=2, target_modules=["query", "value"]), tmp_path_factory.mktemp("adapter"))


def train(base: Path, config: peft.PeftConfig, folder: Path) -> Path:
    from transformers import BertModel

    model = peft.get_peft_model(BertModel.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(0)
    for value in (value for value in model.parameters() if value.requires_grad):
        value.data = value.data + 0.1 * torch.randn(value.shape, generator=generator)
    model.save_pretrained(folder)
    model.merge_and_unload().save_pretrained(folder / "merged")
    return folder


def test_a_model_is_fused_as_peft_merges_it_and_explained_and_nothing_is_left(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results" / "out"
    (tmp_path / "results" / f".out.expanding-{2**22 + 7}").mkdir(parents=True)  # of a process that was killed
    done = run_coldfuse(
        "fuse", base, adapter, adapter / "merged", "--explain", "model", "--json", "--out", out
    ).succeed()
    said = json.loads(done.lines[-1])
    assert [item["kind"] for item in said["contributions"]] == ["adapter", "model"]
    fused, merged = load_file(out / "model.safetensors"), load_file(adapter / "merged" / "model.safetensors")
    for name, values in merged.items():
        torch.testing.assert_close(fused[name], values, rtol=1e-6, atol=1e-7)
    assert not torch.equal(fused[QUERY], load_file(base / "model.safetensors")[QUERY])
    assert [item.name for item in out.parent.iterdir()] == ["out"]


def test_a_model_in_memory_contributes_what_peft_merges(base: Path, adapter: Path, tmp_path: Path) -> None:
    from transformers import BertModel

    model = peft.PeftModel.from_pretrained(BertModel.from_pretrained(base), adapter)
    before, after = (load_file(folder / "model.safetensors")[QUERY] for folder in (base, adapter / "merged"))
    with ExitStack() as stack:
        found = open_finetuned(model, open_checkpoint(base), tmp_path / "scratch", stack)
        delta = torch.from_numpy(found.read(QUERY, 5, 40))
    torch.testing.assert_close(delta.float(), (after - before).reshape(-1)[5:45], rtol=1e-5, atol=1e-7)


def test_a_plan_computes_nothing(base: Path, adapter: Path, tmp_path: Path) -> None:
    done = run_coldfuse("fuse", base, adapter, "--plan", "--json", "--out", tmp_path / "out").succeed()
    assert json.loads(done.lines[-1])["inputs"][0]["kind"] == "adapter"
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_workers_changes_no_bit(base: Path, adapter: Path, tmp_path: Path) -> None:
    digests = {
        coldfuse.fuse(base, [adapter], out=tmp_path / str(workers), workers=workers).digest for workers in (1, 2)
    }
    assert len(digests) == 1


def test_what_is_not_installed_is_named_with_its_extra(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    for name in ("expanding", "peculiar", "skeleton"):
        monkeypatch.delitem(sys.modules, f"coldfuse.adapters.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r"type HRA is computed by PEFT, and peft is not .*coldfuse\[adapters"):
        coldfuse.fuse(base, [adapter], out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_quantised_base_is_named_with_what_to_do(base: Path, tmp_path: Path) -> None:
    lora = train(base, peft.LoraConfig(r=2, target_modules=["query"]), tmp_path / "lora")
    coarse = tmp_path / "coarse"
    coarse.mkdir()
    tensors = load_file(base / "model.safetensors")
    tensors[QUERY] = torch.zeros(tensors[QUERY].numel() // 2, 1, dtype=torch.uint8)
    save_file(tensors, coarse / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (coarse / "config.json").write_text(json.dumps(config | quantised))
    for model in (lora, lora / "merged"):
        with pytest.raises(SchemaMismatchError, match=r"the base is quantised, by bitsandbytes with 4 bits: .*floats"):
            coldfuse.fuse(coarse, [model], out=tmp_path / "out")
    with pytest.raises(SchemaMismatchError, match=r"the model is quantised, by bitsandbytes with 4 bits: .*dequantize"):
        coldfuse.fuse(base, [coarse], out=tmp_path / "out")


def test_several_adapters_in_one_folder_are_named(base: Path, adapter: Path, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "adapter_config.json").write_text("{}")
    with pytest.raises(UserInputError, match=r"all: holds no model, but adapters .*\(alice, bob\); give one, such as"):
        coldfuse.fuse(base, [tmp_path / "all"], out=tmp_path / "out")


def test_weights_in_a_pickle_are_never_opened(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(UserInputError, match=r"weights lie in adapter_model\.bin, a pickle, .*save_pretrained"):
        coldfuse.fuse(base, [tmp_path], out=tmp_path / "out")


def test_an_untied_base_takes_what_a_tied_one_cannot(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**size, num_hidden_layers=1, tie_word_embeddings=True)).save_pretrained(tmp_path / "b")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = peft.get_peft_model(LlamaForCausalLM.from_pretrained(tmp_path / "b"), config)
    for value in (value for value in model.parameters() if value.requires_grad):
        value.data = value.data + 0.1 * torch.randn_like(value)
    model.save_pretrained(tmp_path / "lora")
    with pytest.raises(SchemaMismatchError, match=r"'lm_head' was trained apart .*tie_word_embeddings = False"):
        coldfuse.fuse(tmp_path / "b", [tmp_path / "lora"], out=tmp_path / "out")
    untied = LlamaForCausalLM.from_pretrained(tmp_path / "b")
    untied.config.tie_word_embeddings = False
    untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight.detach().clone())
    untied.save_pretrained(tmp_path / "u")
    coldfuse.fuse(tmp_path / "u", [tmp_path / "lora"], out=tmp_path / "out")
    tokens = torch.tensor([[3, 4, 5]])
    fused = LlamaForCausalLM.from_pretrained(tmp_path / "out").eval()(tokens).logits
    torch.testing.assert_close(fused, model.eval()(tokens).logits, rtol=1e-4, atol=1e-5)
