"""Which layers of a model PEFT has low-rank factors for, what it calls them, and how it lays their factors out.

PEFT goes by the modules in memory, so transformers is asked for them. Of a model that it does not know, names and
shapes must do, and nobody can say whether PEFT will find the modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from coldfuse.core.schema import Schema
from coldfuse.naming.architecture import Architecture

LayerKind = Literal["linear", "transposed", "embedding", "convolution"]
"""How a layer stores its weight: outputs × inputs; inputs × outputs (Conv1D of GPT-2); words × features; or with the
kernel's dimensions behind outputs × inputs."""

_EMBEDDING = re.compile(r"(^|\.)(wte|wpe|shared|relative_attention_bias|(?!embed_out)[^.]*embed[^.]*)\.weight$")
TRANSPOSING = frozenset({"clvp", "decision_transformer", "gpt2", "imagegpt", "openai-gpt"})
"""Values of `model_type` whose layers store inputs × outputs, for models that transformers cannot be asked of."""

_KINDS: Mapping[str, LayerKind] = {
    "Linear": "linear", "Conv1D": "transposed", "Embedding": "embedding",
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), "convolution"),
}  # fmt: skip
"""Kind of each class of layers, or of what derives from it."""


@dataclass(frozen=True)
class Layer:
    """A layer that may have factors."""

    module: str
    """Its path in memory."""
    kind: LayerKind


@dataclass(frozen=True, kw_only=True)
class LoraLayout:
    """The layers of a model that may have factors."""

    layers: Mapping[str, Layer]
    """Layers by the base's names of their weights."""
    dtype: str = "F32"
    """Dtype of the factors."""
    tied: frozenset[str] = frozenset()
    """The base's names of embeddings that are also a head: PEFT applies factors there only once it merges them."""


def is_embedding_name(name: str) -> bool:
    """Tell whether a weight's name is one that embeddings usually have.

    >>> is_embedding_name("bert.embeddings.word_embeddings.weight"), is_embedding_name("lm_head.weight")
    (True, False)
    """
    return _EMBEDDING.search(name) is not None


def layout_of(architecture: Architecture, schema: Schema, *, dtype: str, tied: Iterable[str] = ()) -> LoraLayout:
    """Return the layers of a model, as transformers builds it.

    Args:
        architecture: The model in memory.
        schema: Dtypes and shapes of the base's tensors.
        dtype: Dtype of the factors.
        tied: The base's names of embeddings that its files store once more as a head.
    """
    layers = {}
    for name in schema:
        found = architecture.layer_of(name)
        kind = _kind_of(found[1]) if found else None
        if found and kind and tuple(found[1].weight.shape) == schema[name].shape:
            layers[name] = Layer(found[0], kind)
    heads = {name for name in schema if architecture.in_memory(name) == architecture.tied_embedding is not None}
    return LoraLayout(layers=layers, dtype=dtype, tied=frozenset(heads.union(tied)))


def _kind_of(layer: object) -> LayerKind | None:
    kinds = [_KINDS[base.__name__] for base in type(layer).__mro__ if base.__name__ in _KINDS]
    if not kinds or (kinds[0] == "convolution" and getattr(layer, "groups", 1) != 1):
        return None  # a grouped convolution's delta is block by block no product of two factors
    return kinds[0]


def layout_by_names(schema: Schema, *, model_type: str = "", dtype: str = "F32") -> LoraLayout:
    """Return the layers of a model that transformers does not know, by the names and shapes in its files.

    Args:
        schema: Dtypes and shapes of the base's tensors.
        model_type: The model type in its configuration.
        dtype: Dtype of the factors.
    """
    linear: LayerKind = "transposed" if model_type in TRANSPOSING else "linear"
    layers = {
        name: Layer(name.removesuffix(".weight"), "embedding" if is_embedding_name(name) else linear)
        for name, spec in schema.items()
        if len(spec.shape) == 2
        and name.endswith(".weight")
        and "/" not in name  # a module's own folder is none of PEFT's
    }
    return LoraLayout(layers=layers, dtype=dtype)
