"""Tiny bodies, and federations that share a module on them, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.training.sharing.kinds import parse_share
from coldfuse.training.sharing.making import Source, make_module

LLAMA = LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
    vocab_size=60, max_position_embeddings=32,
)  # fmt: skip
BERT = BertConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=60,
    max_position_embeddings=32,
)  # fmt: skip


@cache
def body(root: Path, kind: str) -> Path:
    """Return the folder of a tiny body."""
    torch.manual_seed(7)
    model = LlamaForCausalLM(LLAMA) if kind == "llama" else BertModel(BERT)
    model.save_pretrained(root / kind)
    return root / kind


def share(root: Path, of: Path, line: str, *, digest: str | None = None) -> Path:
    """Write release 0's folder of a module on a body."""
    make_module(Source(folder=of, origin=str(of), digest=digest), parse_share(line), line, root)
    return root


def make_shared_federation(root: Path, of: Path, line: str, *, method: str = "mean", quorum: int = 2) -> Federation:
    """Create a federation that shares a module on a body."""
    return create_federation(
        LocalStore(root / "store"), name="shared", base=share(root / "module", of, line), origin=str(of), method=method,
        rules={"quorum": quorum, "deadline_s": 60.0}, screening=ScreeningRules(),
    )  # fmt: skip


Changes = Mapping[str, np.ndarray]


def changes_of(schema: Mapping[str, object], seed: int, size: float = 0.1) -> Changes:
    """Make a random change of every tensor of a module."""
    rng = np.random.default_rng(seed)
    return {name: (rng.normal(size=spec.shape) * size).astype(np.float32) for name, spec in schema.items()}


def products(tensors: Mapping[str, np.ndarray], scale: float = 2.0) -> dict[str, np.ndarray]:
    """Return s·BA of each module, in float64."""
    found = {}
    for name in tensors:
        if name.endswith("lora_B.weight"):
            up, down = tensors[name], tensors[name.replace("lora_B", "lora_A")]
            found[name.removesuffix(".lora_B.weight")] = scale * up.astype(np.float64) @ down.astype(np.float64)
    return found


__all__ = ["BERT", "LLAMA", "Callable", "body", "changes_of", "make_shared_federation", "products", "share"]
