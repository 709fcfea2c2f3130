"""The Python API with the libraries that its users have: transformers and PEFT, over a real gateway."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import write_tiny_model
from tiny_rounds import lead

import coldfuse
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.transport.server import serve_gateway

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from peft import LoraConfig, get_peft_model

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own


@pytest.fixture
def held(tmp_path: Path) -> Federation:
    base = write_tiny_model(tmp_path / "base")
    rules = {"quorum": 4, "deadline_s": 600.0}
    store = LocalStore(tmp_path / "store")
    return create_federation(store, name="reviews", base=base, origin="tiny", method="mean", rules=rules)


@pytest.fixture
def federation(held: Federation) -> Iterator[coldfuse.Federation]:
    lead(held)
    with serve_gateway(held) as gateway, coldfuse.connect(gateway.address) as federation:
        yield federation


def classifier(folder: Path) -> torch.nn.Module:
    from transformers import BertForSequenceClassification

    return BertForSequenceClassification.from_pretrained(folder, num_labels=3)


def moved(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    return model


def body_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name.removeprefix("bert."): tensor for name, tensor in model.state_dict().items() if "bert." in name}


def test_models_in_memory_and_on_disk_make_one_release(
    held: Federation, federation: coldfuse.Federation, tmp_path: Path
) -> None:
    folder = federation.fetch(tmp_path / "model").path
    base = load_file(folder / "model.safetensors")
    plain, saved, states = (moved(classifier(folder), seed) for seed in (1, 2, 3))
    saved.save_pretrained(tmp_path / "saved")
    adapted = get_peft_model(
        classifier(folder), LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS", use_dora=True)
    )
    moved(adapted, 4)
    models = {"ada": plain, "ben": tmp_path / "saved", "cy": states.state_dict(), "dan": adapted}
    sent = {
        name: federation.contribute(model, num_examples=10, name=name, wait=False) for name, model in models.items()
    }
    assert {name: one.left_out for name, one in sent.items() if name != "dan"} == dict.fromkeys(
        ("ada", "ben", "cy"), ("classifier.bias", "classifier.weight")
    )
    assert all("classifier" in name for name in sent["dan"].left_out)
    assert sent["dan"].left_out
    assert not any("attention.self.query.weight" in name for name in sent["dan"].unchanged)

    lead(held)
    fused = load_file(federation.fetch(tmp_path / "model").path / "model.safetensors")
    merged = body_of(adapted.merge_and_unload())
    bodies = [body_of(plain), body_of(saved), body_of(states), merged]
    for name, tensor in base.items():
        if tensor.is_floating_point() and tensor.numel():
            steps = [body[name].double() - tensor.double() for body in bodies]
            expected = tensor.double() + sum(steps) / 4
            torch.testing.assert_close(fused[name].double(), expected, rtol=0, atol=3e-7)


def test_the_base_itself_is_no_contribution(federation: coldfuse.Federation, tmp_path: Path) -> None:
    folder = federation.fetch(tmp_path / "model").path
    with pytest.raises(coldfuse.errors.UserInputError, match="nothing differs from release 0"):
        federation.contribute(folder, num_examples=10, name="ada", wait=False)
    assert federation.status().round.num_received == 0


def lora(folder: Path, seed: int, **options: object) -> torch.nn.Module:
    """Return a body with an adapter that somebody has trained: both factors have moved."""
    from transformers import BertModel

    config = LoraConfig(r=2, lora_alpha=3, target_modules=["query", "value", "word_embeddings"], **options)
    return moved(get_peft_model(BertModel.from_pretrained(folder), config), seed)


def test_adapters_are_sent_as_their_factors_and_make_what_a_fusion_of_their_folders_makes(tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "base")
    store = LocalStore(tmp_path / "store")
    rules = {"quorum": 2, "deadline_s": 600.0}
    held = create_federation(store, name="reviews", base=base, origin="tiny", method="mean", rules=rules)
    lead(held)
    with serve_gateway(held) as gateway, coldfuse.connect(gateway.address) as federation:
        folder = federation.fetch(tmp_path / "model").path
        models = [lora(folder, 1), lora(folder, 2, use_rslora=True)]
        models[1].save_pretrained(tmp_path / "ben")
        sent = [
            federation.contribute(model, num_examples=10, name=name, wait=False)
            for name, model in (("ada", models[0]), ("ben", tmp_path / "ben"))
        ]
        lead(held)
        models[0].save_pretrained(tmp_path / "ada")
        fused = coldfuse.fuse(base, [tmp_path / "ada", tmp_path / "ben"], out=tmp_path / "fused")
        assert held.latest().model_digest == fused.digest
        assert {a.measured.kind for a in held.journal(1).state().admitted.values()} == {"lora, low-rank"}
        whole = sum(4 * tensor.numel() for name, tensor in load_file(folder / "model.safetensors").items()
                    if "query.weight" in name or "value.weight" in name or "word_embeddings" in name)  # fmt: skip
        assert all(one.delta_bytes < whole / 2 for one in sent)
