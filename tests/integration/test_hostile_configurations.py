"""Configurations that ask a model class for too much, for the hub or for code: one reason, in a bounded time."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from coldfuse.naming import building
from coldfuse.naming.architecture import Architecture, Unknown, find_architecture

LLAMA = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "vocab_size": 8,
         "num_hidden_layers": 1}  # fmt: skip


def why(**settings: object) -> str:
    found = find_architecture(LLAMA | settings)
    assert isinstance(found, Unknown)
    return found.why


@pytest.mark.parametrize(
    "settings",
    [
        {"num_labels": 10**9},
        {"num_hidden_layers": 10**9},
        {"model_type": "dac", "n_codebooks": 10**9},
        {"model_type": "llava", "text_config": {"model_type": "llama", "num_hidden_layers": 10**9}},
    ],
    ids=str,
)
def test_what_is_made_as_often_as_a_setting_says_has_a_limit(settings: dict[str, Any]) -> None:
    assert "1,000,000,000 layers, experts or labels" in why(**settings)


def test_parts_are_counted_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_MAX_PARTS", 100)
    assert "more than 100 modules" in why(num_hidden_layers=30)
    assert isinstance(find_architecture({**LLAMA, "num_hidden_layers": 2}), Architecture)


@pytest.mark.parametrize(
    "settings", [{"num_hidden_layers": "3"}, {"num_hidden_layers": 1e9}, {"hidden_size": [8]}, {"hidden_act": "evil"}]
)
def test_settings_of_another_kind_are_a_reason(settings: dict[str, Any]) -> None:
    assert why(**settings).startswith("transformers cannot build it: ")


def test_a_backbone_on_the_hub_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    assert why(model_type="detr", use_timm_backbone=False, backbone="evil/repo")
    assert not asked


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_on_the_hub_are_not_asked_for(key: str) -> None:
    plain = find_architecture(LLAMA)
    assert isinstance(plain, Architecture)
    nested = {"model_type": "llava", "text_config": {**LLAMA, key: "evil/repo"},
              "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 1}}  # fmt: skip
    for config in ({**LLAMA, key: "evil/repo"}, nested):
        found = find_architecture(config)
        assert isinstance(found, Architecture)
        assert "evil/repo" not in str(found.model.config)
