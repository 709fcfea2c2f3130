"""How alike models are, as values: their weights by layer, and what they make of texts by layer."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from coldfuse.core.value import Sentence, Value
from coldfuse.errors import UserInputError

FORM: Literal["coldfuse-similarity/1"] = "coldfuse-similarity/1"
"""Layout of a similarity's JSON."""

Word = Annotated[str, Field(min_length=1, max_length=5000)]
"""Name of something, for people."""


class WeightLikeness(Value):
    """How alike two task vectors, or the weights of two models, are in some tensors."""

    cosine: float | None
    """Their cosine, −1…1; None where one of them is zero."""
    sign_agreement: float | None
    """Share of the elements where both are not 0 in which they have the same sign; None of none."""
    norms: tuple[float, float]
    """Their lengths."""
    distance: float
    """Length of their difference."""


class WeightPair(Value):
    """Two models by their weights."""

    one: Word
    """Name of a model."""
    other: Word
    """Name of another."""
    overall: WeightLikeness
    """All tensors together."""
    layers: dict[str, WeightLikeness]
    """The tensors of each layer together, in order, as `coldfuse diff` names them."""
    tensors: dict[str, WeightLikeness]
    """Each tensor, by the base's names."""


class LayerPair(Value):
    """What a layer of one model and a layer of another make of the same texts."""

    one: int
    """Layer of the first model; 0 is what its embeddings give."""
    other: int
    """Layer of the other one, at the same share of its depth."""
    cka: float | None
    """Linear CKA without bias, at most 1."""
    svcca: float | None
    """Mean canonical correlation of the main directions, 0…1."""
    pwcca: float | None
    """The same, weighted by what the directions carry of the first model's features, or of the narrower's."""
    procrustes: float | None
    """Distance after the best rotation, 0…1; 0 is the same."""


class RepresentationPair(Value):
    """Two models by what they make of texts."""

    one: Word
    """Name of a model."""
    other: Word
    """Name of another."""
    layers: tuple[LayerPair, ...]
    """Each layer of the model that has more of them, with its counterpart."""
    cka: tuple[tuple[float | None, ...], ...]
    """CKA of every layer of the one, by rows, with every layer of the other."""


class Similarity(Value):
    """How alike models are, pair by pair."""

    form: Literal["coldfuse-similarity/1"] = FORM
    """Layout of this JSON."""
    models: tuple[Word, ...]
    """Models, in the order in which they were named."""
    base: Word | None
    """Base of the task vectors; None where weights themselves are compared."""
    weights: tuple[WeightPair, ...]
    """Pairs by their weights; none where their shapes differ."""
    representations: tuple[RepresentationPair, ...]
    """Pairs by what they make of texts; none without texts."""
    num_examples: int
    """Texts that passed through the models."""
    notes: tuple[Sentence, ...] = ()
    """What should be known of it."""


def weight_likeness(sums: NDArray[np.float64], one: int, other: int) -> WeightLikeness:
    """Return how alike two models are, from the sums G, s and b of some tensors, shape (3, M, M).

    Args:
        sums: Inner products, elements of the same sign, and elements that neither leaves 0.
        one: Index of a model.
        other: Index of another.

    Raises:
        UserInputError: The sums are too large for float64.
    """
    if not np.isfinite(sums).all():
        raise UserInputError("some weights are too large to be compared: their squares exceed float64")
    product, same, both = (float(matrix[one, other]) for matrix in sums)
    squared = float(sums[0, one, one]), float(sums[0, other, other])
    lengths = math.sqrt(squared[0]), math.sqrt(squared[1])
    return WeightLikeness(
        cosine=min(1.0, max(-1.0, product / lengths[0] / lengths[1])) if min(lengths) > 0 else None,
        sign_agreement=same / both if both else None,
        norms=lengths,
        distance=math.sqrt(max(squared[0] + squared[1] - 2 * product, 0.0)),
    )
