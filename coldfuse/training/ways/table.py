"""The table of ways: what is trained, what is sent, its bytes for a small encoder and a large language model.

Bytes are those of a contribution in float32, at PEFT's own defaults, counted on models without memory. Factors are sent
where they are smaller than the tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from coldfuse.adapters.types import WITH_BIAS
from coldfuse.errors import UserInputError
from coldfuse.training.ways import WAYS
from coldfuse.training.ways.adapted import Adapted
from coldfuse.training.ways.masked import Masked
from coldfuse.training.ways.merging import RANKS
from coldfuse.training.ways.settings import config_class
from coldfuse.training.ways.targets import default_targets
from coldfuse.training.ways.way import Way, shared_parameters

_NUMBER = 4
"""Bytes of a number."""

_ELEMENT = _NUMBER + 10 / 8
"""Bytes of a number with its place, which takes about ten bits."""

_TOKENS = 100
"""Tokens that are counted for `trainable-tokens`."""

_MINILM = BertConfig(num_hidden_layers=6, hidden_size=384, intermediate_size=1536, num_attention_heads=12)
_LLAMA = LlamaConfig(tie_word_embeddings=False)  # the defaults are those of the 7B model

_RANK_OF: dict[str, Callable[[Any], int]] = {
    **RANKS, "LORA": lambda config: int(config.r), "ADALORA": lambda config: int(config.init_r),
}  # fmt: skip

_ANY = "all"
_ALONE = "`ram`, `consensus`; `mean` where all train the same"
_SMALL = "`mean`, `weighted-mean`, `fisher`"
_PRODUCTS = "`mean`, `knots`, `tsv-m`, `iso-c`, `low-rank`"

_WORDS: dict[str, tuple[str, str, str]] = {
    "full": ("all weights", "dense", _ANY),
    "layers": ("the upper half of the layers, or others", "dense", _ALONE),
    "norms": ("normalisations", "dense", _SMALL),
    "bias": ("biases (BitFit)", "dense", _SMALL),
    "masked": ("0.5 % of the weights, chosen once for some rounds (FISH)", "sparse", _ALONE),
    "ln-tuning": ("normalisations, by PEFT", "dense", _SMALL),
    "beft": ("biases of linear layers, by PEFT", "dense", _SMALL),
    "ia3": ("a factor for each key, value and feed-forward feature", "dense", _ANY),
    "trainable-tokens": (f"embeddings of named tokens ({_TOKENS} here)", "sparse", _ALONE),
    "shira": ("elements at random places of linear layers", "sparse", _ALONE),
    "waveft": ("waves at random places of linear layers", "sparse", _ALONE),
    "supertuning": ("the largest 1 % of the weights of linear layers", "sparse", _ALONE),
}
_FACTORS = ("an adapter on linear layers", "factors", _PRODUCTS)
_MERGED = ("an adapter on linear layers", "dense", _ANY)


@dataclass(frozen=True, kw_only=True)
class WayInfo:
    """A way, or several that are alike, for people."""

    names: tuple[str, ...]
    trains: str
    """What is trained."""
    form: str
    """How changes travel: dense, sparse, or factors."""
    minilm_bytes: int | None
    """Bytes of a contribution for all-MiniLM-L6-v2; None where it cannot be trained so."""
    llama_bytes: int | None
    """Bytes of a contribution for a model of the shape of Llama 7B."""
    methods: str
    """Fusion methods that suit it."""


def list_ways() -> list[WayInfo]:
    """Return every way, in the order of the table."""
    with torch.device("meta"):
        models: tuple[nn.Module, nn.Module] = (BertModel(_MINILM), LlamaForCausalLM(_LLAMA))
    return [
        WayInfo(
            names=(name,), trains=words[0], form=words[1], minilm_bytes=_bytes(way, models[0], words[1]),
            llama_bytes=_bytes(way, models[1], words[1]), methods=words[2],
        )
        for name, way in WAYS.items()
        for words in [_words(name, way)]
    ]  # fmt: skip


def table_of_ways() -> str:
    """Return the table in Markdown; ways that differ in nothing but their names share a row."""
    lines = ["| `--train` | trains | sends | MiniLM | 7B | methods that suit it |", "|---|---|---|---|---|---|"]

    def alike(info: WayInfo) -> tuple[str, ...]:
        return info.trains, info.form, _size(info.minilm_bytes), _size(info.llama_bytes), info.methods

    ways = list_ways()
    firsts = {alike(info): place for place, info in reversed(list(enumerate(ways)))}
    for row, group in groupby(sorted(ways, key=lambda info: firsts[alike(info)]), key=alike):
        names = ", ".join(f"`{name}`" for info in group for name in info.names)
        lines.append(f"| {names} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _words(name: str, way: type[Way]) -> tuple[str, str, str]:
    if name in _WORDS:
        return _WORDS[name]
    return _FACTORS if issubclass(way, Adapted) and way.peft_type in _RANK_OF else _MERGED


def _bytes(way: type[Way], model: nn.Module, form: str) -> int | None:
    names = {own: own for own, _ in model.named_parameters()}
    shared = shared_parameters(model, names)
    if issubclass(way, Masked):
        return round(way().density * sum(p.numel() for p in shared.values()) * _ELEMENT)
    if issubclass(way, Adapted):
        return _adapter_bytes(way.peft_type, model, form) or None
    with torch.device("meta"):
        other = type(model)(model.config)  # freezing is for good
    try:
        way().prepare(other, names)
    except UserInputError:
        return None
    return _NUMBER * sum(p.numel() for p in other.parameters() if p.requires_grad)


def _adapter_bytes(peft_type: str, model: nn.Module, form: str) -> int:
    shared = shared_parameters(model, {own: own for own, _ in model.named_parameters()})
    layers = [model.get_submodule(path) for path in default_targets(peft_type, model, shared)]
    if peft_type == "TRAINABLE_TOKENS":
        return round(_TOKENS * sum(layer.get_parameter("weight").shape[1] for layer in layers) * _ELEMENT)
    total = 0.0
    for layer in layers:
        weight, bias = layer.get_parameter("weight"), layer._parameters.get("bias")
        if peft_type != "BEFT":
            total += _weight_bytes(peft_type, weight, form)
        if bias is not None and peft_type in WITH_BIAS | {"IA3", "LN_TUNING"}:
            total += bias.numel() * _NUMBER
    return round(total)


def _weight_bytes(peft_type: str, weight: nn.Parameter, form: str) -> float:
    dense = float(weight.numel() * _NUMBER)
    if peft_type == "SHIRA":
        return min(dense, float(config_class(peft_type)().r * sum(weight.shape) * _ELEMENT))
    if peft_type == "WAVEFT":  # a wave is four elements
        return min(dense, float(4 * config_class(peft_type)().n_frequency * _ELEMENT))
    if peft_type == "SUPERTUNING":
        return float((1 - config_class(peft_type)().sparsity) * weight.numel() * _ELEMENT)
    if form != "factors":
        return dense
    given = {"total_step": 1} if peft_type == "ADALORA" else {}
    rank = min(_RANK_OF[peft_type](config_class(peft_type)(**given)), *weight.shape)
    return min(dense, float(rank * sum(weight.shape) * _NUMBER))


def _size(num_bytes: int | None) -> str:
    """Return a number of bytes for people.

    >>> _size(90_900_000), _size(1_540), _size(None)
    ('91 MB', '1.5 kB', '–')
    """
    if num_bytes is None:
        return "–"
    value, units = float(num_bytes), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}" if value < 10 else f"{value:.0f} {units[0]}"
