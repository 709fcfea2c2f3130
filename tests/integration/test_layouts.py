"""Models as the Hub has them, of several versions and with other heads, against what transformers makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import transformers
from architectures import KINDS, build, fine_tuned
from commands import run_coldfuse
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from coldfuse import fuse
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.checkpoint import open_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT and transformers deprecate each other

BERT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GPT2 = {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20, "bos_token_id": 0,
        "eos_token_id": 1}  # fmt: skip
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 8,
       "patch_size": 4}  # fmt: skip

Rename = Callable[[str], str]


def bert(kind: type[PreTrainedModel], seed: int = 0, **settings: object) -> PreTrainedModel:
    return make(kind, transformers.BertConfig(**(BERT | settings)), seed)


def make(kind: type[PreTrainedModel], config: object, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return kind(config)


def save(path: Path, model: PreTrainedModel, rename: Rename = str, **more: torch.Tensor) -> Path:
    """Save a model under other names, with other tensors beside its own."""
    model.save_pretrained(path)
    file = path / "model.safetensors"
    save_file({rename(name): value for name, value in (load_file(file) | more).items()}, file, {"format": "pt"})
    return path


def moved(model: PreTrainedModel, step: float = 0.01) -> PreTrainedModel:
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters(), 1):
            parameter.add_(step * number)
    return model


def old_layer_norms(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def loaded(kind: type[PreTrainedModel], path: Path) -> Mapping[str, torch.Tensor]:
    model, report = kind.from_pretrained(path, output_loading_info=True)
    assert not report["missing_keys"]
    return model.state_dict()


def assert_same(got: Mapping[str, torch.Tensor], want: Mapping[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-6)


LAYOUTS: dict[str, tuple[Rename, Rename]] = {
    "old layer norms in the base": (old_layer_norms, str),
    "old layer norms in the model": (str, old_layer_norms),
    "a base without its prefix": (lambda name: name.removeprefix("bert."), str),
    "a model without its prefix": (str, lambda name: name.removeprefix("bert.")),
    "old layer norms and no prefix": (lambda name: old_layer_norms(name).removeprefix("bert."), str),
    "a compiled model": (old_layer_norms, lambda name: f"_orig_mod.{name}"),
    "a model in parallel": (lambda name: name.removeprefix("bert."), lambda name: f"module.{name}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_names_are_those_that_transformers_loads_into_one_place(layout: str, tmp_path: Path) -> None:
    base_name, model_name = LAYOUTS[layout]
    kind = transformers.BertForMaskedLM
    base = save(tmp_path / "base", bert(kind), base_name)
    tuned = moved(bert(kind))
    other = save(tmp_path / "other", tuned, model_name)
    fuse(base, [other], out=tmp_path / "out")
    assert open_checkpoint(tmp_path / "out").schema.keys() == open_checkpoint(base).schema.keys()
    assert_same(loaded(kind, tmp_path / "out"), tuned.state_dict())


def test_masks_in_the_hubs_gpt2_are_no_weights(tmp_path: Path) -> None:
    kind, config = transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2)
    mask = {"h.0.attn.bias": torch.ones(1, 1, 20, 20).tril(), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    base = save(tmp_path / "base", make(kind, config), lambda name: name.removeprefix("transformer."), **mask)
    tuned = moved(make(kind, config))
    fuse(base, [save(tmp_path / "other", tuned)], out=tmp_path / "out")
    assert_same(loaded(kind, tmp_path / "out"), tuned.state_dict())
    assert load_file(tmp_path / "out" / "model.safetensors")["h.0.attn.bias"].equal(mask["h.0.attn.bias"])
    fuse(tmp_path / "other", [base], out=tmp_path / "back")
    assert_same(loaded(kind, tmp_path / "back"), make(kind, config).state_dict())


@pytest.mark.parametrize(
    ("base_kind", "kind"),
    [
        ("BertModel", "BertForSequenceClassification"), ("BertModel", "BertForTokenClassification"),
        ("BertForPreTraining", "BertForSequenceClassification"), ("BertForPreTraining", "BertForTokenClassification"),
        ("BertForMaskedLM", "BertModel"), ("BertForMaskedLM", "BertForSequenceClassification"),
    ],
)  # fmt: skip
def test_a_task_of_its_own_has_another_head_and_the_body_is_fused(base_kind: str, kind: str, tmp_path: Path) -> None:
    theirs, mine = getattr(transformers, base_kind), getattr(transformers, kind)
    base, model = save(tmp_path / "base", bert(theirs)), moved(bert(mine, seed=1))
    fuse(base, [save(tmp_path / "other", model)], out=tmp_path / "out")
    body = {name.removeprefix("bert."): tensor for name, tensor in model.state_dict().items()}
    untouched = {name.removeprefix("bert."): tensor for name, tensor in bert(theirs).state_dict().items()}
    for name, tensor in loaded(theirs, tmp_path / "out").items():
        short = name.removeprefix("bert.")
        is_head = name.startswith("cls.") and "decoder.weight" not in name  # which is tied to the embedding
        tied = "embeddings.word_embeddings.weight" if "decoder.weight" in name else short
        want = untouched[short] if is_head or tied not in body else body[tied]
        torch.testing.assert_close(tensor, want, rtol=0, atol=1e-6)


def test_a_head_for_more_classes_is_another_head(tmp_path: Path) -> None:
    kind = transformers.RobertaForSequenceClassification
    config = {**BERT, "max_position_embeddings": 40}
    base = save(tmp_path / "base", make(kind, transformers.RobertaConfig(**config)))
    tuned = moved(make(kind, transformers.RobertaConfig(**config, num_labels=5), seed=1))
    fuse(base, [save(tmp_path / "other", tuned)], out=tmp_path / "out")
    untouched = make(kind, transformers.RobertaConfig(**config)).state_dict()
    for name, tensor in loaded(kind, tmp_path / "out").items():
        want = untouched[name] if name.startswith("classifier.") else tuned.state_dict()[name]
        torch.testing.assert_close(tensor, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_model_with_more_or_fewer_layers_is_refused(layers: int, tmp_path: Path) -> None:
    base = save(tmp_path / "base", bert(transformers.BertModel))
    other = save(tmp_path / "other", bert(transformers.BertForTokenClassification, num_hidden_layers=layers))
    with pytest.raises(
        SchemaMismatchError, match=r"tensor (bert\.)?encoder\.layer\.[12]\..* (missing|not in the base)"
    ):
        fuse(base, [other], out=tmp_path / "out")


def test_biases_inside_the_shared_body_are_never_left_out(tmp_path: Path) -> None:
    settings = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": False}  # fmt: skip
    base = save(tmp_path / "base", make(transformers.LlamaForCausalLM, transformers.LlamaConfig(**settings)))
    other = save(tmp_path / "other", make(transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**settings)))
    with pytest.raises(
        SchemaMismatchError, match=r"tensor model\.layers\.0\.self_attn\.\w_proj\.bias is not in the base"
    ):
        fuse(base, [other], out=tmp_path / "out")


def vit(seed: int = 0) -> PreTrainedModel:
    return make(transformers.ViTForImageClassification, transformers.ViTConfig(**VIT), seed)


RENAMED = (
    "EsmForMaskedLM", "GPTNeoXForCausalLM", "ViTForImageClassification", "DeiTForImageClassification",
    "BeitForImageClassification", "Dinov2Model", "SwinForImageClassification", "LlavaForConditionalGeneration",
    "Gemma3ForConditionalGeneration", "Qwen2VLForConditionalGeneration",
)  # fmt: skip
"""Architectures whose names in files are not those in memory, which some versions wrote to files, too."""


@pytest.mark.parametrize("is_base", [False, True], ids=["the model", "the base"])
@pytest.mark.parametrize("name", RENAMED)
def test_a_version_that_saved_the_names_in_memory_fits_one_that_did_not(
    name: str, is_base: bool, tmp_path: Path
) -> None:
    kind = KINDS[name]
    base, tuned = build(kind), fine_tuned(kind, seed=1)
    odd, plain = (base, tuned) if is_base else (tuned, base)
    save(tmp_path / "plain", plain)
    save(tmp_path / "odd", odd)
    places = {value.data_ptr(): name for name, value in reversed(odd.state_dict().items())}  # tied ones once
    in_memory = {name: value for name, value in odd.state_dict().items() if places[value.data_ptr()] == name}
    save_file(in_memory, tmp_path / "odd" / "model.safetensors", {"format": "pt"})
    folders = ("odd", "plain") if is_base else ("plain", "odd")
    fuse(tmp_path / folders[0], [tmp_path / folders[1]], out=tmp_path / "out")
    assert_same(loaded(type(tuned), tmp_path / "out"), tuned.state_dict())


@pytest.mark.parametrize("is_base", [False, True], ids=["the model", "the base"])
def test_weight_norms_of_older_versions_are_the_same_weights(is_base: bool, tmp_path: Path) -> None:
    kind = KINDS["Wav2Vec2ForCTC"]
    new = ("parametrizations.weight.original0", "parametrizations.weight.original1")

    def older(name: str) -> str:
        return name.replace(new[0], "weight_g").replace(new[1], "weight_v")

    base, tuned = build(kind), fine_tuned(kind, seed=1)
    save(tmp_path / "base", base, older if is_base else str)
    save(tmp_path / "model", tuned, str if is_base else older)
    fuse(tmp_path / "base", [tmp_path / "model"], out=tmp_path / "out")
    assert_same(loaded(type(tuned), tmp_path / "out"), tuned.state_dict())


def test_an_adapter_on_modules_that_transformers_renames_is_fused(tmp_path: Path) -> None:
    base = save(tmp_path / "base", vit())
    tuned = get_peft_model(vit(), LoraConfig(r=3, target_modules="all-linear", init_lora_weights=False))
    tuned.save_pretrained(str(tmp_path / "adapter"))
    fuse(base, [tmp_path / "adapter"], out=tmp_path / "out")
    assert_same(loaded(transformers.ViTForImageClassification, tmp_path / "out"), tuned.merge_and_unload().state_dict())


def test_an_adapter_of_an_older_version_has_the_names_of_the_files(tmp_path: Path) -> None:
    base = save(tmp_path / "base", vit())
    tuned = get_peft_model(vit(), LoraConfig(r=3, target_modules=["q_proj", "fc1"], init_lora_weights=False))
    tuned.save_pretrained(str(tmp_path / "adapter"))
    file = tmp_path / "adapter" / "adapter_model.safetensors"

    def older(name: str) -> str:
        name = name.replace("vit.layers", "vit.encoder.layer").replace("attention.q_proj", "attention.attention.query")
        return name.replace("mlp.fc1", "intermediate.dense")

    save_file({older(name): value for name, value in load_file(file).items()}, file)
    fuse(base, [tmp_path / "adapter"], out=tmp_path / "out")
    assert_same(loaded(transformers.ViTForImageClassification, tmp_path / "out"), tuned.merge_and_unload().state_dict())


@pytest.mark.parametrize("kind", ["vit", "gpt2", "llama"])
def test_an_adapter_that_is_made_moves_the_model_in_peft_as_far_as_it_says(kind: str, tmp_path: Path) -> None:
    build = {"vit": vit, "gpt2": gpt2, "llama": tied_llama}[kind]
    base, tuned = save(tmp_path / "base", build()), moved(build())
    with torch.no_grad():  # of full rank, so that some of it is lost
        for index, parameter in enumerate(tuned.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.1)
    made = fuse(base, [save(tmp_path / "tuned", tuned)], out=tmp_path / "out", kind="adapter", rank=4)
    merged = PeftModel.from_pretrained(build(), str(tmp_path / "out")).merge_and_unload().state_dict()
    before, wanted = build().state_dict(), tuned.state_dict()
    names = [name for name in wanted if name != "lm_head.weight"]  # it is the embedding
    lost = sum(float((merged[name] - wanted[name]).norm() ** 2) for name in names) ** 0.5
    norm = sum(float((wanted[name] - before[name]).norm() ** 2) for name in names) ** 0.5
    assert made.adapter_error == pytest.approx(lost / norm, rel=1e-3)
    assert 0.01 < lost / norm < 0.9


def test_what_a_tied_head_misses_before_the_adapter_is_merged_is_said(tmp_path: Path) -> None:
    base, tuned = save(tmp_path / "base", tied_llama()), tied_llama()
    with torch.no_grad():
        tuned.get_input_embeddings().weight.add_(torch.outer(torch.arange(40.0), torch.ones(16)) / 40)
    save(tmp_path / "tuned", tuned)
    told = run_coldfuse("fuse", base, tmp_path / "tuned", "--out", tmp_path / "out", "--as", "adapter", "--rank", 2)
    assert any(line.startswith("the adapter, as PEFT applies it, is off by 0.00%") for line in told.lines)
    assert any(line.startswith("before it is merged it is off by 70.71%: the head is the") for line in told.lines)
    words, loaded_with_it = torch.tensor([[3, 4, 5]]), PeftModel.from_pretrained(tied_llama(), str(tmp_path / "out"))
    far = loaded_with_it.eval()(words).logits - tuned.eval()(words).logits
    near = loaded_with_it.merge_and_unload()(words).logits - tuned(words).logits
    assert far.abs().max() > 1 > 1e-3 > near.abs().max()


def gpt2() -> PreTrainedModel:
    return make(transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2))


def tied_llama() -> PreTrainedModel:
    config = transformers.LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                                      num_attention_heads=2, tie_word_embeddings=True)  # fmt: skip
    return make(transformers.LlamaForCausalLM, config)
