"""Weights that a base ties and stores twice, such as an output head beside the input embedding: they are fused as one.

- Two tensors of the base are one weight if their names are those of a head (`lm_head.weight`, `….decoder.weight`) and
  an embedding, of an encoder's or decoder's embedding and the shared one, or of a masked language model's two biases;
  if dtype, shape and every byte are the same; and if the base's configuration does not say that they are untied
  (`tie_word_embeddings` false). Files of many models that tie leave that setting out.
- They are measured, ranked and counted once, under the first one's name; a copy gets the bytes of the first.
- An input that has one of them, a model whose copy transformers left out, or a delta or adapter that changes one, has
  it for both. One that has both must have them alike: a model that was trained apart is refused, and so is an adapter
  with factors of its own for each.
- A model and a delta that are written have both, an adapter the first alone: merged into a model that ties them,
  factors for each would be added twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import TypeVar

from coldfuse.adapters.adapter import Adapter, AdapterTensor
from coldfuse.adapters.changes import Replaced
from coldfuse.adapters.layout import is_embedding_name
from coldfuse.engine.operands import places_in_delta
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.checkpoint import Checkpoint, Place
from coldfuse.tensors.contents import same_bytes
from coldfuse.tensors.encodings import Encoded
from coldfuse.tensors.header import Header
from coldfuse.tensors.tensor_file import TensorFile

_COPY = re.compile(r"(^|\.)(lm_head|embed_out|vocab_projector|decoder|(en|de)coder\.embed_tokens)\.weight$")
_BIAS_COPY = re.compile(r"(^|\.)(predictions|lm_head)\.decoder\.bias$")
"""`cls.predictions.decoder.bias` is `cls.predictions.bias`."""

Tied = Mapping[str, str]
"""The tensor that each copy among the base's tensors is a copy of, by the copy's name."""

T = TypeVar("T")


def find_tied(base: Checkpoint) -> dict[str, str]:
    """Find the copies among a base's tensors, folder by folder; those that may be one by their names are read."""
    found: dict[str, str] = {}
    for place in sorted(base.folders):
        found |= {place + name: place + first for name, first in _find_tied(base.component(place)).items()}
    return found


def _find_tied(base: Checkpoint) -> dict[str, str]:
    if not may_be_tied(base):
        return {}
    places = {name: place for name, place in base.places.items() if place[1].spec.is_fused}
    embeddings = [name for name in places if is_embedding_name(name)]
    embeddings.sort(key=lambda name: (_COPY.search(name) is not None, name))  # `shared` before a decoder's own
    found: dict[str, str] = {}
    for name, place in places.items():
        for first in _may_copy(name, embeddings):
            if name not in found and first in places and same_bytes(place, places[first]):
                found[name] = first
    return found


def _may_copy(name: str, embeddings: list[str]) -> list[str]:
    """Return the tensors that one may be a copy of, by their names; those that are no copies themselves come first."""
    if _BIAS_COPY.search(name):
        return [name.removesuffix("decoder.bias") + "bias"]
    if not _COPY.search(name):
        return []
    return embeddings[: embeddings.index(name)] if name in embeddings else embeddings


def may_be_tied(base: Checkpoint) -> bool:
    """Tell whether the base's configuration leaves it open that head and embedding are one."""
    return base.config.get("tie_word_embeddings") is not False


def by_first_name(tensors: Mapping[str, T], tied: Tied) -> dict[str, T]:
    """Return what an input has by name, and what it has of a copy also under the name of the tensor that is copied.

    What the input has under that tensor's own name counts before what it has of a copy.
    """
    return {**{tied[name]: tensor for name, tensor in tensors.items() if name in tied}, **tensors}


def is_copy_name(name: str) -> bool:
    """Tell whether a tensor's name is that of a head or of a second embedding, which may be a copy of the first."""
    return _COPY.search(name) is not None


def check_places(places: Mapping[str, Place], tied: Tied, *, what: str) -> None:
    """Raise `SchemaMismatchError` if tied tensors differ in a model or delta.

    Args:
        places: Where its tensors lie, by the base's names.
        tied: The base's copies.
        what: Its name, for errors.
    """
    _check({name: Compared((place,)) for name, place in places.items()}, tied, what)


def check_changes(
    file: TensorFile, encoded: Mapping[str, Encoded], tied: Tied, *, what: str, mask: TensorFile | None = None
) -> None:
    """Raise `SchemaMismatchError` if tied tensors differ in a delta, in what is stored or in how.

    Args:
        file: The delta.
        encoded: How each of its tensors is stored, by the base's names.
        tied: The base's copies.
        what: Its name, for errors.
        mask: Its mask, where it has one.
    """
    found = {
        name: Compared(tuple(places_in_delta(file, name, how, mask).values()), how) for name, how in encoded.items()
    }
    _check(found, tied, what)


def check_adapter(adapter: Adapter, tied: Tied, *, what: str) -> None:
    """Raise `SchemaMismatchError` unless an adapter changes one of tied tensors, or stores them whole and alike."""
    _check({name: _whole(tensor) for name, tensor in adapter.tensors.items()}, tied, what)


@dataclass(frozen=True)
class Compared:
    """What is stored of a tensor, to be held against what is stored of a copy."""

    places: tuple[Place, ...]
    how: object = None
    """How it is stored, which must be the same, too."""

    def is_like(self, other: Compared) -> bool:
        """Tell whether the other is stored alike, byte by byte."""
        return self.how == other.how and all(starmap(same_bytes, zip(self.places, other.places, strict=True)))


def _whole(tensor: AdapterTensor) -> Compared | None:
    """Return where an adapter stores a tensor whole; None: it has factors."""
    match tensor.changes:
        case (Replaced(stored=stored),):
            return Compared(((TensorFile(stored.file, Header(size_bytes=0, tensors=())), stored.tensor),))
    return None


def _check(places: Mapping[str, Compared | None], tied: Tied, what: str) -> None:
    """Compare all copies that are there with one of them; None cannot be compared, and is like nothing else."""
    known = by_first_name({name: name for name in places}, tied)
    for name, first in tied.items():
        if name not in places or (one := known[first]) == name:
            continue
        place, other = places[one], places[name]
        if place is None or other is None or not place.is_like(other):
            raise SchemaMismatchError(
                f"{what}: tensors {one} and {name} differ, but in the base they are one tied weight; make them alike "
                "or leave one out, or fuse them apart with --untie (in a federation: say "
                '"tie_word_embeddings": false in the base\'s config.json)'
            )
