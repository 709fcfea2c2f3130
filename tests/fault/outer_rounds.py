"""Rounds of a method with an outer step, and the same steps made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tiny_rounds import (
    Model,
    contribute,
    floats,
    lead,
    make_changes,
    make_contribution,
    make_model,
    parse_file,
    read_release,
)

from coldfuse.core.release import ReleaseManifest
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore

MODEL = make_model()
METHOD = "mean then nesterov"
ETA, MU = 0.7, 0.9
Arrays = dict[str, np.ndarray]


def deltas_of(number: int) -> list[Arrays]:
    """What two contributors send in a round."""
    return [make_changes(MODEL, 10 * number + seed) for seed in (0, 1)]


def play(federation: Federation, number: int, *, threads: int = 1) -> ReleaseManifest:
    """Play a round with an aggregator that has just started."""
    federation = open_federation(LocalStore(federation.store.url))
    lead(federation, number)
    for name, changes in zip(("ada", "ben"), deltas_of(number), strict=True):
        contribute(federation, name, changes)
    lead(federation, number, executor=ThreadExecutor(threads))
    assert federation.latest().round == number
    return federation.latest()


def step_by_hand(model: Model, momentum: Arrays, deltas: Sequence[Arrays]) -> tuple[Model, Arrays]:
    """u ← μ u + Δ; θ ← θ + η (Δ + μ u); u is kept in float32."""
    moved, kept = dict(model), {}
    for name, tensor in model.items():
        if tensor.spec.is_fused:
            delta = sum(d[name].astype(np.float64) for d in deltas if name in d) / len(deltas)
            u = MU * momentum[name].astype(np.float64) + delta
            moved[name] = floats(tensor.floats.astype(np.float64) + ETA * (delta + MU * u), tensor.spec.dtype)
            kept[name] = u.astype(np.float32) * np.ones(tensor.spec.shape, np.float32)
    return moved, kept


def by_hand(rounds: int) -> tuple[Model, Arrays]:
    model = MODEL
    momentum = {n: np.zeros(t.spec.shape, np.float32) for n, t in model.items() if t.spec.is_fused}
    for number in range(1, rounds + 1):
        model, momentum = step_by_hand(model, momentum, deltas_of(number))
    return model, momentum


def read_state(federation: Federation, release: ReleaseManifest) -> Arrays:
    """Read the momentum from the store, with the library that defines the files."""
    state: Model = {}
    for name, blob in release.outer.files.items():
        assert name.startswith("momentum/")
        state |= parse_file(federation.objects.open(blob).read(0, blob.size_bytes))
    return {name: tensor.floats for name, tensor in state.items()}


def assert_as_by_hand(federation: Federation, rounds: int) -> None:
    model, momentum = by_hand(rounds)
    assert read_release(federation) == model
    state = read_state(federation, federation.latest())
    assert state.keys() == momentum.keys()
    assert all(np.array_equal(state[name], momentum[name]) for name in state)


def write_deltas(federation: Federation, number: int, folder: Path) -> list[Path]:
    """Write what was sent in a round, as files."""
    paths = []
    for index, changes in enumerate(deltas_of(number)):
        delta = make_contribution(federation, "x", changes).delta
        paths.append(folder / f"delta-{number}-{index}.safetensors")
        paths[-1].write_bytes(federation.objects.open(delta).read(0, delta.size_bytes))
    return paths
