"""Output heads that a base ties to its embedding, and adapters that train one or both of them.

- A head that was tied while it was trained is in the adapter a second time, as the embedding's copy: it counts once.
  (PEFT adds the factors of both to the one weight when it merges, which is not what was trained.)
- A head, or an embedding, that was trained apart from the other needs a model that stores both and no longer ties. A
  base that does so already takes the adapter; one that ties does not: nothing is fused with a part of what was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from coldfuse.adapters.changes import Stored, read_stored
from coldfuse.adapters.config import AdapterConfig
from coldfuse.adapters.names import Contents
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError

_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output_projection|vocab_projector|decoder)$")
"""Modules that models tie to their embedding."""

_EMBEDDING = re.compile(r"(^|\.)(embed_in|embed_tokens|shared|tok_embeddings|word_embeddings|wte)$")
"""Input embeddings that heads are tied to."""

_HEADED = re.compile(r"(LM|LMHeadModel|Generation|PreTraining)$")
"""How the names of architectures end that have such a head."""

_UNTIE = (
    "fuse with --untie, or untie the base (load it, set config.tie_word_embeddings = False, give the head a copy of "
    "the embedding, save_pretrained) and fuse with that"
)


def ties(base_config: Mapping[str, object]) -> bool:
    """Tell whether a base has a head that is its embedding, by its configuration."""
    tied, named = base_config.get("tie_word_embeddings"), base_config.get("architectures")
    if isinstance(named, list) and named:
        return tied is not False and _HEADED.search(str(named[0])) is not None
    return tied is True


def without_tied_heads(
    contents: Contents, config: AdapterConfig, base: Schema, base_config: Mapping[str, object], *, what: str
) -> Contents:
    """Return an adapter's tensors without those of heads that only repeat the embedding's.

    Args:
        contents: The tensors, sorted.
        config: The adapter's settings.
        base: Dtypes and shapes of the base's tensors.
        base_config: The base's `config.json`.
        what: The adapter's name, for errors.

    Raises:
        SchemaMismatchError: The base ties head and embedding, and the adapter trains one apart from the other.
    """
    if not ties(base_config):
        return contents
    own = contents.modules.keys() | {name.removesuffix(".weight") for name in contents.whole if "weight" in name}
    heads = {name for name in own if _HEAD.search(name)}
    embeddings = {name for name in own - heads if _EMBEDDING.search(name)}
    copies = {head for head in heads if any(_is_copy(contents, head, other) for other in embeddings)}
    alone = {name for name in heads - copies if not _is_in(name, base)}
    if not copies and not any(_is_in(name, base) for name in heads):
        alone |= {name for name in embeddings if name.rpartition(".")[2] in config.modules_to_save}
    if alone:
        name = min(alone)
        raise SchemaMismatchError(
            f"{what}: module {name[:200]!r} was trained apart from the {'embedding' if name in heads else 'head'}, but "
            f"the base ties head and embedding and stores them as one; {_UNTIE}"
        )
    return replace(
        contents,
        modules={name: parts for name, parts in contents.modules.items() if name not in copies},
        whole={name: stored for name, stored in contents.whole.items() if name.removesuffix(".weight") not in copies},
    )


def is_tied_head(name: str) -> bool:
    """Tell whether a tensor's name is that of a head that models tie to their embedding: no task has one of its own.

    >>> is_tied_head("lm_head.weight"), is_tied_head("classifier.weight")
    (True, False)
    """
    return _HEAD.search(name.rpartition(".")[0]) is not None


def _is_in(module: str, base: Schema) -> bool:
    """Tell whether a base stores a module's weight, under some prefix."""
    return any(f".{own}".endswith(f".{module}.weight") or f".{module}.weight".endswith(f".{own}") for own in base)


def _is_copy(contents: Contents, head: str, embedding: str) -> bool:
    """Tell whether all that an adapter has of a head repeats what it has of an embedding."""
    mine, other = _parts(contents, head), _parts(contents, embedding)
    if mine.keys() == other.keys():
        return all(_alike(mine[name], other[name]) for name in mine)
    pairs = {"lora_A": "lora_embedding_B", "lora_B": "lora_embedding_A"}
    if mine.keys() - {"weight"} != pairs.keys() or not set(pairs.values()) <= other.keys():
        return False
    return all(_alike(mine[name], other[named], transposed=True) for name, named in pairs.items())


def _parts(contents: Contents, module: str) -> dict[str, Stored]:
    whole = contents.whole.get(f"{module}.weight")
    return {**contents.modules.get(module, {}), **({"weight": whole} if whole else {})}


def _alike(one: Stored, other: Stored, *, transposed: bool = False) -> bool:
    """Tell whether two tensors have the same elements, row by row or the one's rows as the other's columns."""
    shape, other_shape = one.tensor.spec.shape, other.tensor.spec.shape
    if shape != (other_shape[::-1] if transposed else other_shape) or not one.tensor.spec.is_fused:
        return False
    if not transposed:
        return one.same_bytes(other)
    values = [  # factors, which are small
        read_stored(item, 0, item.tensor.spec.num_elements).reshape(item.tensor.spec.shape) for item in (one, other)
    ]
    return np.array_equal(values[0], values[1].T)
