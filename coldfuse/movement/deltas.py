"""What was contributed to a release, and how much of each delta became its change.

Where a release's method takes a linear combination of the deltas and no step comes before or after it, the change is
Δ = Σ_i c_i δ_i, and ⟨c_i δ_i, Δ⟩ / ‖Δ‖² is contribution i's share of it: the shares of all add up to 1, but for what
rounding to the model's dtype has dropped. Of any other method ⟨δ_i, Δ⟩ / ‖Δ‖² says how far a delta goes along the
change: 1 where it alone would have gone as far, and their sum is whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import blob_digest, decode
from coldfuse.core.value import Digest, Value
from coldfuse.engine.multiplying import add_product
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import CodecError, ColdfuseError, FusionError
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.method import LinearCombiner
from coldfuse.fusion.recipe import Recipe
from coldfuse.movement.history import History
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.encodings import Encoded, part_name
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader


class _Sent(Value):
    """What is read of a contribution's manifest: all else was checked when it was screened, maybe by an older one."""

    delta: Blob
    delta_digest: Digest
    base_digest: Digest
    mask: Blob | None = None


@dataclass(frozen=True, kw_only=True)
class Delta:
    """One contribution to a release."""

    fused: FusedContribution
    """What the release says of it."""
    release: int
    """Number of the release."""
    own: TensorReader
    """Reads its file."""
    mask: TensorReader
    """Reads its mask; it has no tensors where there is none."""
    encoded: Mapping[str, Encoded]
    """How each tensor is stored."""
    tied: Mapping[str, str]
    """The base's copies, which one delta is for."""

    @property
    def digest(self) -> str:
        """Digest of the contribution's manifest."""
        return self.fused.contribution

    @cached_property
    def _names(self) -> Mapping[str, str]:
        copies = {self.tied[name]: name for name in self.encoded if name in self.tied}
        return copies | {name: name for name in self.encoded}

    def has(self, tensor: str) -> bool:
        """Tell whether it holds a change of a tensor."""
        return tensor in self._names

    def read(self, tensor: str, shape: tuple[int, ...], first: int, count: int) -> Float64:
        """Return δ of some elements of a tensor that it has."""
        name = self._names[tensor]
        how = self.encoded[name]

        def read(part: str, start: int, number: int) -> NDArray[Any]:
            reader = self.mask if part in how.mask_parts else self.own
            return reader.numbers(part_name(name, part), start, number)

        return how.delta(shape, read, first, count, add=add_product)

    def close(self) -> None:
        """Let go of its files."""
        self.own.close()
        self.mask.close()


def open_delta(
    history: History, manifest: ReleaseManifest, fused: FusedContribution, *, base: Schema, tied: Mapping[str, str]
) -> Delta:
    """Open a contribution's delta by what the release names.

    Args:
        history: Where it lies.
        manifest: The release's manifest.
        fused: What the release says of the contribution.
        base: Dtypes and shapes of the base's tensors.
        tied: The base's copies.

    Raises:
        NotAllowedError: What contributors send is private.
        ColdfuseError: It can no longer be read, or is not what the release names.
    """
    what = f"the contribution of {fused.contributor} ({fused.contribution[:12]})"
    sent = decode(_Sent, history.sent(manifest.release, fused.contribution), what=what)
    if not sent.delta_digest == fused.delta_digest == blob_digest(sent.delta):
        raise CodecError(f"{what}: has another delta than the release names")
    files = [(what, sent.delta), *([(f"the mask of {what}", sent.mask)] if sent.mask else [])]
    file, *masks = [open_tensors(file) for file in history.open(manifest.release, files)]
    encoded = check_delta(
        file.header, base, base_digest=sent.base_digest, what=what, mask=masks[0].header if masks else None
    )  # fmt: skip
    own, of_mask = TensorReader([file]), TensorReader(masks)
    return Delta(fused=fused, release=manifest.release, own=own, mask=of_mask, encoded=encoded, tied=tied)


@dataclass(frozen=True, kw_only=True)
class Factors:
    """How much of each delta of one release became its change."""

    recipe: Recipe
    contributions: Sequence[FusedContribution]
    is_linear: bool
    """Whether the change is a linear combination of the deltas."""

    def of(self, tensor: str, shape: tuple[int, ...], present: Sequence[bool]) -> dict[str, float]:
        """Return c_i of each contribution in a tensor, by digest; where the method is not linear, what was taken of it.

        Args:
            tensor: Name of the tensor.
            shape: Its shape.
            present: Whether each contribution holds it.
        """
        taken = [one.scale * (1.0 if one.staleness_weight is None else one.staleness_weight)
                 for one in self.contributions]  # fmt: skip
        combination = _combination(self.recipe, self.contributions, tensor, shape, present) if self.is_linear else None
        if combination is not None:
            taken = [share * c for share, c in zip(taken, combination, strict=True)]
        return {one.contribution: factor for one, factor in zip(self.contributions, taken, strict=True)}


def factors_of(manifest: ReleaseManifest, *, has_all: bool) -> Factors:
    """Return how much of each delta became a release's change, by the method that it names.

    Args:
        manifest: The release's manifest.
        has_all: Whether all deltas can be read, so that it is known which tensors each holds.

    Raises:
        UserInputError: The method is not known here.
    """
    recipe = read_recipe(manifest.method)
    tried = _combination(recipe, manifest.contributions, "", (1,), [True] * len(manifest.contributions))
    steps = manifest.retraction.steps if manifest.retraction else ()
    is_one_round = sum(bool(step.num_fused) for step in steps) <= 1  # several are fused one after the other
    is_known = has_all or getattr(recipe.combiner, "absent", "zero") == "zero"
    is_linear = tried is not None and manifest.module is None and is_known and is_one_round
    return Factors(recipe=recipe, contributions=manifest.contributions, is_linear=is_linear)


def _combination(
    recipe: Recipe, contributions: Sequence[FusedContribution], tensor: str, shape: tuple[int, ...],
    present: Sequence[bool],
) -> list[float] | None:  # fmt: skip
    """Return c_i / d; None for a method that is not linear in the deltas, or asks for more than their weights."""
    combiner, factor = recipe.combiner, recipe.factor
    if (
        recipe.transforms
        or factor is None
        or not isinstance(combiner, LinearCombiner)
        or combiner.measures()
        or combiner.statistic
    ):
        return None
    info = TensorInfo(
        tensor=tensor, shape=shape, weights_C=np.array([one.weight for one in contributions], np.float64),
        present_C=np.array(present, np.bool_), keys_C=np.empty(0, np.uint64), num_elements=0,
    )  # fmt: skip
    try:
        found = combiner.combination(info)
    except FusionError:
        return None
    return None if found.base else (np.asarray(found.deltas_C, np.float64) * (factor / found.divisor)).tolist()


def why_unreadable(error: ColdfuseError) -> str:
    """Return in some words why a delta cannot be read."""
    return " ".join(str(error).split())[:300]
