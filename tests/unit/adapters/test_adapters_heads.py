"""Adapters of a base that ties its head to its embedding and stores the embedding alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import floats, write_file

from coldfuse.adapters.adapter import Adapter, open_adapter
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import SchemaMismatchError

BASE = {
    "model.embed_tokens.weight": TensorSpec(dtype="F32", shape=(9, 3)),
    "model.q.weight": TensorSpec(dtype="F32", shape=(4, 3)),
}
TIED = {"architectures": ["TinyForCausalLM"], "tie_word_embeddings": True}
RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


Q = {"model.q.lora_A.weight": numbers(2, 3), "model.q.lora_B.weight": numbers(4, 2)}
TOKENS, OTHER = numbers(9, 3), numbers(9, 3)
A, B = numbers(2, 9), numbers(3, 2)
EMBEDDING = {"model.embed_tokens.lora_embedding_A": A, "model.embed_tokens.lora_embedding_B": B}
COPY = {"lm_head.lora_A.weight": np.ascontiguousarray(B.T), "lm_head.lora_B.weight": np.ascontiguousarray(A.T)}


def opened(
    folder: Path,
    tensors: dict[str, np.ndarray],
    base_config: dict[str, object],
    stored_head: bool = False,
    **more: object,
) -> Adapter:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, **more}))
    write_file(
        folder / "adapter_model.safetensors",
        {f"base_model.model.{name}": floats(values) for name, values in tensors.items()},
    )
    base = BASE | ({"lm_head.weight": BASE["model.embed_tokens.weight"]} if stored_head else {})
    return open_adapter(folder, base, what="alice", base_config=base_config)


@pytest.mark.parametrize(
    "tensors",
    [
        {"lm_head.lora_A.weight": numbers(2, 3), "lm_head.lora_B.weight": numbers(9, 2)},
        {**Q, "lm_head.weight": OTHER},
        {**Q, "lm_head.weight": OTHER, "model.embed_tokens.weight": TOKENS},
        {**EMBEDDING, "lm_head.lora_A.weight": numbers(2, 3), "lm_head.lora_B.weight": numbers(9, 2)},
    ],
    ids=["factors alone", "whole", "both whole", "both factors"],
)
@pytest.mark.parametrize("config", [TIED, {"architectures": ["GPT2LMHeadModel"]}, {"tie_word_embeddings": True}])
def test_a_head_that_was_trained_apart_is_refused_with_what_to_do(
    tmp_path: Path, tensors: dict[str, np.ndarray], config: dict[str, object]
) -> None:
    with pytest.raises(
        SchemaMismatchError, match=r"^alice: module 'lm_head' was trained apart .*; fuse with --untie, or untie"
    ):
        opened(tmp_path, tensors, config)


@pytest.mark.parametrize(
    "tensors",
    [{**EMBEDDING, **COPY}, {**Q, "lm_head.weight": TOKENS, "model.embed_tokens.weight": TOKENS}],
    ids=["factors", "whole"],
)
@pytest.mark.parametrize("stored_head", [False, True])
def test_a_head_that_repeats_the_embedding_counts_once(
    tmp_path: Path, tensors: dict[str, np.ndarray], stored_head: bool
) -> None:
    adapter = opened(tmp_path, tensors, TIED, stored_head, modules_to_save=["embed_tokens"])
    assert adapter.tensors.keys() - {"model.q.weight"} == {"model.embed_tokens.weight"}
    assert adapter.ignored == ()


def test_an_embedding_that_was_trained_apart_from_its_head_is_refused(tmp_path: Path) -> None:
    tensors = {**Q, "model.embed_tokens.weight": TOKENS}
    with pytest.raises(SchemaMismatchError, match=r"module 'model.embed_tokens' was trained apart from the head, but"):
        opened(tmp_path, tensors, TIED, modules_to_save=["embed_tokens"])
    saved_with_it = opened(tmp_path, tensors, TIED)  # PEFT's save_embedding_layers: nothing was trained apart
    assert set(saved_with_it.tensors) == {"model.embed_tokens.weight", "model.q.weight"}


@pytest.mark.parametrize("config", [{"architectures": ["TinyForCausalLM"], "tie_word_embeddings": False}, {}])
def test_an_untied_base_takes_both(tmp_path: Path, config: dict[str, object]) -> None:
    tensors = {**Q, "lm_head.weight": OTHER, "model.embed_tokens.weight": TOKENS}
    adapter = opened(tmp_path, tensors, config, stored_head=True, modules_to_save=["embed_tokens", "lm_head"])
    assert set(adapter.tensors) == {"lm_head.weight", "model.embed_tokens.weight", "model.q.weight"}


def test_a_body_without_a_head_leaves_the_head_out_and_says_so(tmp_path: Path) -> None:
    tensors = {**Q, "lm_head.weight": OTHER}
    adapter = opened(tmp_path, tensors, {"architectures": ["TinyModel"], "tie_word_embeddings": True})
    assert adapter.ignored == ("lm_head.weight",)
