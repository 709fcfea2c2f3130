"""Comparing models: what `coldfuse.similarity` and the command run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

from coldfuse.api.candidates import Candidates, Fetch, is_change, shown_names
from coldfuse.api.fusing import Machine
from coldfuse.api.model_names import as_text, check_names
from coldfuse.api.places import Place
from coldfuse.core.left_out import left_out_lines
from coldfuse.engine.comparing import Sides, compare_weights, total
from coldfuse.errors import ColdfuseError, FusionError, SchemaMismatchError, UserInputError
from coldfuse.evaluation.likeness import RepresentationPair, Similarity, WeightPair, weight_likeness
from coldfuse.movement.found import EMBEDDINGS, OTHERS, layer_of
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
    request: ComparisonRequest, fetch: Fetch, *, on_model: Callable[[str], None] = lambda _: None
) -> Similarity:
    """Bring the models, and compare them. Raises as `coldfuse.similarity`.

    Args:
        request: What is asked for.
        fetch: Brings a release of a federation.
        on_model: Called with each model's name before it is loaded.
    """
    given = check_names(request.models, fewest=2)
    with TemporaryDirectory(prefix="coldfuse-similarity-") as scratch:
        candidates = Candidates(fetch=fetch, folder=Path(scratch) / "models")
        base = None if request.base is None else candidates.place_of(os.fspath(request.base))
        places = dict(zip(shown_names(given), map(candidates.place_of, given), strict=True))
        if base is None and (changes := [name for name, where in places.items() if is_change(where)]):
            raise UserInputError(
                f"{changes[0]}: a delta or adapter; name the model that it was made on with --base MODEL"
            )
        notes: list[str] = []
        try:
            weights = _weights(request, places, base, notes)
        except (SchemaMismatchError, FusionError) as error:
            if request.texts is None:
                raise _with_advice(error) from error
            weights = ()
            notes.append(f"weights are not compared: {error}")
        candidates = replace(candidates, base=None if base is None else str(base))
        found = () if request.texts is None else _representations(request, places, candidates, on_model)
    return Similarity(
        models=tuple(places), base=as_text(request.base), weights=weights, representations=found,
        num_examples=len(request.texts or ()), notes=tuple(note[:2000] for note in notes),
    )  # fmt: skip


def _with_advice(error: ColdfuseError) -> ColdfuseError:
    if not isinstance(error, SchemaMismatchError):
        return error
    return SchemaMismatchError(
        f"{error}; models of different shapes can be compared by what they make of texts alone: --data FILE"
    )


def _weights(
    request: ComparisonRequest, places: Mapping[str, Location], base: Location | None, notes: list[str]
) -> tuple[WeightPair, ...]:
    first, *_ = places.values()
    with TemporaryDirectory(prefix="coldfuse-similarity-") as scratch:
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
    for name in sorted(sides, key=lambda name: _depth(layer_of(name))):
        by_layer.setdefault(layer_of(name), []).append(name)
    (i, first), (j, second) = one, other
    return WeightPair(
        one=first, other=second, overall=weight_likeness(total(sides.values()), i, j),
        layers={
            group: weight_likeness(total(sides[name] for name in members), i, j) for group, members in by_layer.items()
        },
        tensors={name: weight_likeness(sums, i, j) for name, sums in sides.items()},
    )  # fmt: skip


def _depth(layer: str) -> tuple[int, str, int]:
    """Return what layers are ordered by: embeddings, each stack from its first layer to its last, and the rest."""
    if layer in (EMBEDDINGS, OTHERS):
        return (0 if layer == EMBEDDINGS else 2), "", 0
    stack, _, number = layer.rpartition(".")
    return 1, stack, int(number)


def _representations(
    request: ComparisonRequest, places: Mapping[str, Location], candidates: Candidates, on_model: Callable[[str], None]
) -> tuple[RepresentationPair, ...]:
    from coldfuse.evaluation.representations import (  # noqa: PLC0415 - torch, for texts alone
        RunSettings,
        compare_representations,
    )

    settings = RunSettings(max_length=request.max_length, threads=request.threads, device=request.device)
    texts = _Texts(request.texts or (), request.pairs)
    found = candidates.find([str(where) for where in places.values()])
    folders = {name: model.folder for name, model in zip(places, found, strict=True)}
    with TemporaryDirectory(prefix="coldfuse-similarity-") as scratch:
        return compare_representations(folders, texts, settings, scratch=Path(scratch), on_model=on_model)
