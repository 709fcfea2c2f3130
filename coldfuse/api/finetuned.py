"""A fine-tuned model as the delta of each tensor that the base has, in whatever form it came."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

from coldfuse.core.schema import Schema
from coldfuse.naming.sharing import Share, only
from coldfuse.tensors.changes import Change, ChangesByName, DenseChange, LowRankChange
from coldfuse.tensors.deltas import ReadDelta


def no_factors(_name: str) -> None:
    """Return None: a whole model's delta is no product."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A fine-tuned model, held against the base."""

    names: tuple[str, ...]
    """Tensors of the base that it has."""
    read: ReadDelta
    """Returns elements of its delta to the base."""
    left_out: tuple[str, ...]
    """Its tensors that the base does not have, by its own names."""
    unchanged: tuple[str, ...] = ()
    """Tensors of the base that it does not have."""
    trained: str = "full"
    """What was trained, for the manifest: an adapter's type, or full."""
    factored: Callable[[str], LowRankChange | None] = no_factors
    """Returns the factors of a tensor's delta, where it is a product."""

    def only(self, share: Share) -> FineTuned:
        """Return what patterns name of it; the rest stays here. Raises `UserInputError` if a pattern names nothing."""
        named = only(share, [(name, name) for name in self.names])
        stays = tuple(name for name in self.names if name not in named)
        names = tuple(name for name in self.names if name in named)
        return replace(self, names=names, left_out=(*self.left_out, *stays))

    @property
    def changes(self) -> Mapping[str, Change]:
        """What was done to each tensor, in the form that it has; made when it is asked for."""
        return ChangesByName(self.names, lambda name: self.factored(name) or DenseChange(partial(self.read, name)))


def absent(names: Collection[str], base: Schema) -> tuple[str, ...]:
    """Return the tensors of the base that could have been fused and are not among these."""
    return tuple(sorted(name for name, spec in base.items() if spec.is_fused and name not in names))
