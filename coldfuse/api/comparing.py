"""Comparing models: what `coldfuse.similarity` and the command run."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from coldfuse.api.any_model import Fetch, fetch_release, is_change, load_any, open_any
from coldfuse.api.fusing import Machine
from coldfuse.api.places import Place
from coldfuse.api.rank import check_names
from coldfuse.core.left_out import left_out_lines
from coldfuse.engine.comparing import Sides, compare_weights, total
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.evaluation.likeness import RepresentationPair, Similarity, WeightPair, weight_likeness
from coldfuse.fusion.settings import Layer, is_embedding, layers_of
from coldfuse.tensors.folders import Location


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """What is to be compared, and how."""

    models: Sequence[Place]
    """Models, whatever names them."""
    base: Place | None = None
    """Base of task vectors, deltas and adapters."""
    texts: tuple[str, ...] | None = field(default=None, repr=False)
    """Texts that pass through every model."""
    pairs: tuple[str, ...] | None = field(default=None, repr=False)
    """Second text of each, where there are some."""
    max_length: int = 128
    """Tokens of a text that are read."""
    threads: int | None = None
    """Processor threads for the texts; unset leaves torch's choice."""
    device: str = "auto"
    """Where texts pass through."""
    machine: Machine = field(default_factory=Machine)
    """Where weights are compared."""


@dataclass(frozen=True)
class _Texts:
    texts: Sequence[str]
    text_pairs: Sequence[str] | None


def run_comparison(
    request: ComparisonRequest,
    stack: ExitStack,
    *,
    fetch: Fetch = fetch_release,
    on_model: Callable[[str], None] = lambda _: None,
) -> Similarity:
    """Bring the models, and compare them. Raises as `coldfuse.similarity`."""
    names = check_names(request.models, fewest=2)
    base = None if request.base is None else open_any(request.base, stack, fetch=fetch)
    places = {name: open_any(name, stack, fetch=fetch) for name in names}
    if base is None and (changes := [name for name, where in places.items() if is_change(where)]):
        raise UserInputError(f"{changes[0]}: a change of a base, by itself no model; name its base with --base")
    notes: list[str] = []
    try:
        weights = _weights(request, places, base, notes)
    except SchemaMismatchError as error:
        if request.texts is None:
            raise
        weights = ()
        notes.append(f"weights are not compared: {error}")
    found = () if request.texts is None else _representations(request, places, base, on_model)
    return Similarity(
        models=tuple(names), base=None if request.base is None else os.fspath(request.base), weights=weights,
        representations=found, num_examples=len(request.texts or ()), notes=tuple(note[:2000] for note in notes),
    )  # fmt: skip


def _weights(
    request: ComparisonRequest, places: Mapping[str, Location], base: Location | None, notes: list[str]
) -> tuple[WeightPair, ...]:
    first, *_ = places.values()
    with tempfile.TemporaryDirectory(prefix="coldfuse-") as scratch:
        sides, left_out = compare_weights(
            first if base is None else base, list(places.values()), request.machine.threads, scratch=Path(scratch),
            of_weights=base is None,
        )  # fmt: skip
    notes += left_out_lines(left_out)
    if not sides:
        raise UserInputError("the models have no tensor of floats in common with the base, so nothing can be compared")
    return tuple(_pair(sides, one, other) for one, other in combinations(enumerate(places), 2))


def _pair(sides: Sides, one: tuple[int, str], other: tuple[int, str]) -> WeightPair:
    by_layer: dict[str, list[str]] = {}
    layers = layers_of(sides)
    for name in sorted(sides, key=lambda name: _depth(name, layers[name])):
        layer = layers[name]
        group = f"layer {layer.index}" if layer else "embeddings" if is_embedding(name) else "rest"
        by_layer.setdefault(group, []).append(name)
    (i, first), (j, second) = one, other
    return WeightPair(
        one=first, other=second, overall=weight_likeness(total(sides.values()), i, j),
        layers={
            group: weight_likeness(total(sides[name] for name in members), i, j) for group, members in by_layer.items()
        },
        tensors={name: weight_likeness(sums, i, j) for name, sums in sides.items()},
    )  # fmt: skip


def _depth(name: str, layer: Layer | None) -> float:
    if layer is not None:
        return layer.index
    return -1 if is_embedding(name) else math.inf


def _representations(
    request: ComparisonRequest, places: Mapping[str, Location], base: Location | None, on_model: Callable[[str], None]
) -> tuple[RepresentationPair, ...]:
    from coldfuse.evaluation.representations import (  # noqa: PLC0415 - torch, for texts alone
        RunSettings,
        compare_representations,
    )

    settings = RunSettings(max_length=request.max_length, threads=request.threads, device=request.device)
    texts = _Texts(request.texts or (), request.pairs)
    with ExitStack() as stack:
        folders = {name: load_any(where, stack, base=base) for name, where in places.items()}
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coldfuse-")))
        return compare_representations(folders, texts, settings, scratch=scratch, on_model=on_model)
