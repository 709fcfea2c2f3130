"""What was found: how far tensors moved, and which part of that goes back to which contribution."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from coldfuse.fusion.settings import is_embedding

EMBEDDINGS, OTHERS = "embeddings", "in no layer"
"""Names of the groups of tensors that are in no layer."""

_LAYER = re.compile(r"^(?:.*?\.)?\d+(?=\.|$)")
"""Names up to their first number, which counts the layers of a stack."""


def layer_of(tensor: str) -> str:
    """Return the layer that a tensor is counted in, by its name.

    >>> layer_of("encoder.layer.3.output.dense.weight"), layer_of("embeddings.word_embeddings.weight")
    ('encoder.layer.3', 'embeddings')
    >>> layer_of("pooler.dense.weight"), layer_of("decoder.block.0.layer.1.w")
    ('in no layer', 'decoder.block.0')
    """
    found = _LAYER.match(tensor)
    return found[0] if found else EMBEDDINGS if is_embedding(tensor) else OTHERS


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far some tensors moved: sums, which add up. All but the counts are sums over floats, in float64."""

    num_elements: int = 0
    """Number of elements."""
    num_changed: int = 0
    """Number of those that are another number than before."""
    squares: float = 0.0
    """‖Δ‖²."""
    weights: float = 0.0
    """‖θ‖² before, of the tensors that changed: what is the same in both need not be read."""
    product: float | None = None
    """⟨Δ, Δ′⟩ with the change before, Δ′; None where there was none."""
    earlier: float | None = None
    """‖Δ′‖²; None likewise."""
    along: Mapping[str, float] = field(default_factory=dict)
    """⟨c_i δ_i, Δ⟩ of each contribution, by its digest."""

    @property
    def distance(self) -> float:
        """‖Δ‖, the length of the change."""
        return math.sqrt(self.squares)

    @property
    def relative(self) -> float | None:
        """‖Δ‖ / ‖θ‖ of the tensors that changed; 0 where none did, None where they were all zero."""
        if not self.squares:
            return 0.0
        return math.sqrt(self.squares / self.weights) if self.weights else None

    @property
    def changed(self) -> float:
        """Share of the elements that changed, from 0 to 1."""
        return self.num_changed / self.num_elements if self.num_elements else 0.0

    @property
    def cosine(self) -> float | None:
        """Cosine of the change with the one before; None where there was none, or either is zero."""
        if self.product is None or not self.earlier or not self.squares:
            return None
        return self.product / math.sqrt(self.squares) / math.sqrt(self.earlier)

    def share(self, contribution: str) -> float | None:
        """Return ⟨c_i δ_i, Δ⟩ / ‖Δ‖² of a contribution; None where nothing moved, or nobody could read it."""
        along = self.along.get(contribution)
        return along / self.squares if along is not None and self.squares else None

    def without(self, contributions: Collection[str]) -> Moved:
        """Return the same without what is said of some contributions."""
        return replace(self, along={name: value for name, value in self.along.items() if name not in contributions})

    def as_json(self, names: Sequence[str] = ()) -> dict[str, object]:
        """Return it as JSON has it, with the shares of some contributions."""
        return {
            "num_elements": self.num_elements, "changed": self.changed, "distance": self.distance,
            "relative": self.relative, "cosine_with_before": self.cosine,
            **({"shares": [self.share(name) for name in names]} if names else {}),
        }  # fmt: skip


def total(parts: Iterable[Moved]) -> Moved:
    """Add up what was found of several tensors."""
    each = list(parts)
    along: dict[str, list[float]] = defaultdict(list)
    for one in each:
        for name, value in one.along.items():
            along[name].append(value)
    return Moved(
        num_elements=sum(one.num_elements for one in each),
        num_changed=sum(one.num_changed for one in each),
        squares=math.fsum(one.squares for one in each),
        weights=math.fsum(one.weights for one in each),
        product=_sum(one.product for one in each),
        earlier=_sum(one.earlier for one in each),
        along={name: math.fsum(values) for name, values in along.items()},
    )


def by_layer(tensors: Mapping[str, Moved]) -> dict[str, Moved]:
    """Add up what was found layer by layer, in the order in which layers first come, embeddings first."""
    groups: dict[str, list[Moved]] = defaultdict(list)
    for name, moved in tensors.items():
        groups[layer_of(name)].append(moved)
    return {name: total(groups[name]) for name in sorted(groups, key=_place)}


def _place(layer: str) -> tuple[int, list[tuple[int, str, int]]]:
    """Sort layers of a stack by their numbers."""
    rank = {EMBEDDINGS: 0, OTHERS: 2}.get(layer, 1)
    steps = [(1, "", int(step)) if step.isdecimal() else (0, step, 0) for step in layer.split(".")]
    return rank, steps


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
