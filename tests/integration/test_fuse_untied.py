"""`untie`: heads and embeddings that were trained apart on a base that ties them, with transformers and PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import coldfuse
from coldfuse.errors import SchemaMismatchError, UserInputError

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own

HEAD, EMBEDDING, MODEL = "lm_head.weight", "model.embed_tokens.weight", "model.safetensors"
TOKENS = torch.tensor([[3, 4, 5]])


def saved(folder: Path, *, ties: bool = True, **options: Any) -> Path:
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=ties,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder, **options)
    return folder


def nudged(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 16)
    return model


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        made: Tensor = model.eval()(TOKENS).logits
    return made


def check_loads_like(folder: Path, wanted: Tensor) -> None:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
)
def test_an_adapter_whose_head_was_trained_apart_fuses(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = saved(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = nudged(peft.get_peft_model(model, peft.LoraConfig(r=2, **settings)), 1)
    adapted.save_pretrained(tmp_path / "lora")
    with pytest.raises(SchemaMismatchError, match=r"trained apart .*--untie"):
        coldfuse.fuse(base, [tmp_path / "lora"], out=tmp_path / "out")
    loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "lora")
    coldfuse.fuse(base, [tmp_path / "lora"], out=tmp_path / "out", untie=True)
    check_loads_like(tmp_path / "out", logits(loaded))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_models_that_tie_and_models_that_do_not_fuse_together(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    tied = nudged(AutoModelForCausalLM.from_pretrained(base), 1)
    tied.save_pretrained(tmp_path / "tied")
    apart = LlamaForCausalLM(LlamaForCausalLM.config_class.from_pretrained(base, tie_word_embeddings=False))
    apart.load_state_dict(AutoModelForCausalLM.from_pretrained(base).state_dict())
    nudged(apart, 2).save_pretrained(tmp_path / "apart")
    models = [tmp_path / "tied", tmp_path / "apart"]
    with pytest.raises(SchemaMismatchError, match="was trained apart; fuse with --untie"):
        coldfuse.fuse(base, models, out=tmp_path / "out")
    coldfuse.fuse(base, models, out=tmp_path / "out", untie=True)
    made, states = load_file(tmp_path / "out" / MODEL), [tied.state_dict(), apart.state_dict()]
    assert made.keys() == states[1].keys()
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)


def test_without_a_change_the_untied_model_answers_as_the_tied_one(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", max_shard_size="2KB")
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    for number, options in enumerate(({}, {"shard_bytes": 3000})):
        out = tmp_path / f"out{number}"
        coldfuse.fuse(base, [base], out=out, untie=True, **options)
        check_loads_like(out, logits(AutoModelForCausalLM.from_pretrained(base)))
        assert HEAD in json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert before == {file.name: file.read_bytes() for file in base.iterdir()}


def test_a_head_that_the_base_stores_twice_is_stored_once(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", ties=False)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.lm_head.weight = model.model.embed_tokens.weight
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(base, state_dict=tensors)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert HEAD in load_file(base / MODEL)
    coldfuse.fuse(base, [base], out=tmp_path / "out", untie=True)
    assert load_file(tmp_path / "out" / MODEL).keys() == tensors.keys()
    check_loads_like(tmp_path / "out", logits(model))


@pytest.mark.parametrize(
    "make",
    [
        lambda: GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=16)),
        lambda: BertForMaskedLM(
            BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
        ),
    ],
)
def test_all_that_a_model_ties_is_stored(tmp_path: Path, make: Callable[[], Any]) -> None:
    model = nudged(make(), 3)  # no bias is zero
    model.save_pretrained(tmp_path / "base")
    coldfuse.fuse(tmp_path / "base", [tmp_path / "base"], out=tmp_path / "out", untie=True)
    made, info = type(model).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    torch.testing.assert_close(logits(made), logits(model))


def test_what_cannot_be_untied_is_refused(tmp_path: Path) -> None:
    t5 = T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "t5")
    unknown = saved(tmp_path / "unknown")
    (unknown / "config.json").write_text(json.dumps({"model_type": "nobodys"}))
    for base, says in (
        (tmp_path / "t5", "an encoder-decoder ties more than its head"),
        (saved(tmp_path / "apart", ties=False), "its head and embedding are not tied"),
        (unknown, "its head is not known: .*nobodys"),
        (unknown / MODEL, "expected the folder of one model"),
    ):
        with pytest.raises(UserInputError, match=f"--untie: {base}: {says}"):
            coldfuse.fuse(base, [base], out=tmp_path / "out", untie=True)
    with pytest.raises(UserInputError, match="--untie is for models"):
        coldfuse.fuse(unknown, [unknown], out=tmp_path / "out", untie=True, kind="delta")


def test_what_earlier_fusions_kept_is_not_taken_for_another_model(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    coldfuse.fuse(base, [base], out=tmp_path / "next", method="mean then nesterov")
    with pytest.raises(UserInputError, match="is the tied model's; leave --untie out, or remove"):
        coldfuse.fuse(tmp_path / "next", [base], out=tmp_path / "out", untie=True)
