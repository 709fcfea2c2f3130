"""Federations on models as the Hub itself lays them out: the first BERT's names, and GPT-2's without a prefix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from commands import coldfuse, run_coldfuse
from reviews import write_reviews
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model

TRAINING = ("--send-anyway", "--threads", 1, "--device", "cpu", "--epochs", 1, "--learning-rate", 1e-2, "--once")


def hub_bert(folder: Path) -> type:
    """Write BERT as in `bert-base-uncased`: heads of the pretraining, and `gamma` and `beta` for its layer norms."""
    config = transformers.AutoConfig.from_pretrained(write_tiny_model(folder))
    transformers.BertForPreTraining(config).save_pretrained(folder)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def rename(name: str) -> str:
        for new, then in old.items():
            name = name.replace(new, then)
        return name

    file = folder / "model.safetensors"
    save_file({rename(name): value for name, value in load_file(file).items()}, file, {"format": "pt"})
    return transformers.BertForPreTraining


def hub_gpt2(folder: Path) -> type:
    """Write GPT-2 as in `openai-community/gpt2`: without a prefix, and with the mask of each layer as floats."""
    words = transformers.AutoConfig.from_pretrained(write_tiny_model(folder)).vocab_size
    config = transformers.GPT2Config(vocab_size=words, n_embd=32, n_layer=2, n_head=4, n_positions=64,
                                     bos_token_id=3, eos_token_id=3, pad_token_id=0)  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    file, mask = folder / "model.safetensors", torch.ones(1, 1, 64, 64).tril()
    tensors = {name.removeprefix("transformer."): value for name, value in load_file(file).items()}
    masks = {f"h.{layer}.attn.bias": mask.clone() for layer in range(2)}
    save_file(tensors | masks, file, {"format": "pt"})
    return transformers.GPT2LMHeadModel


@pytest.mark.parametrize("write", [hub_bert, hub_gpt2])
def test_a_federation_on_the_hubs_own_layout_from_init_to_from_pretrained(write, tmp_path: Path) -> None:
    base, store, model = tmp_path / "base", tmp_path / "store", tmp_path / "model"
    kind = write(base)
    run_coldfuse("init", store, "--base", base, "--open", "--quorum", 2).succeed()
    with coldfuse("serve", store) as server:
        address = server.wait_for(lambda line: line.startswith("listening on ")).removeprefix("listening on ")
        for subject in ("film", "meal"):
            data = write_reviews(tmp_path / f"{subject}.csv", num=40, subject=subject)
            where = ("--name", subject, "--data", data, "--work", tmp_path / subject)
            run_coldfuse("contribute", address, *where, *TRAINING).succeed()
        server.wait_for(lambda line: "release 1" in line)
        run_coldfuse("fetch", address, "--out", model).succeed()
        server.send(15)
        assert server.wait() == 0, str(server)
    assert_body_moved(kind, base, model)


def assert_body_moved(kind: type, base: Path, model: Path) -> None:
    """Check that the release has the base's names, loads as the base does, and has another body and the same head.

    Texts are pooled by their mean, so BERT's own pooler is not trained.
    """
    before, after = load_file(base / "model.safetensors"), load_file(model / "model.safetensors")
    assert before.keys() == after.keys()
    loaded, report = kind.from_pretrained(model, output_loading_info=True)
    assert not report["missing_keys"]
    for name, tensor in kind.from_pretrained(base).state_dict().items():
        is_used = name.startswith(f"{loaded.base_model_prefix}.") and ".pooler." not in name
        is_body = is_used or name == "lm_head.weight"
        is_tied = name == "cls.predictions.decoder.weight"
        assert tensor.equal(loaded.state_dict()[name]) == (not is_body and not is_tied), name
