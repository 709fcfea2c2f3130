"""Hand-made models and whole rounds on them, with numpy alone: for tests of tensors, fusion and aggregator."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import Round, advance
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.round import LeaderEvent, Received
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.scored_weights import Weighting
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import blob_digest
from coldfuse.core.signature import Signature
from coldfuse.core.statistics import StatisticsRule
from coldfuse.engine.execution import Executor, ThreadExecutor
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects
from coldfuse.registry.round_clock import RoundClock
from coldfuse.storage import LocalStore
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.header import format_header, parse_header
from coldfuse.tensors.parts import plan_parts


@dataclass(frozen=True)
class Tensor:
    """One tensor of a hand-made model."""

    spec: TensorSpec
    data: bytes

    @property
    def floats(self) -> np.ndarray:
        return to_floats(np.frombuffer(self.data, np.uint8), self.spec.dtype).reshape(self.spec.shape)


Model = dict[str, Tensor]


def floats(values: object, dtype: str = "F32") -> Tensor:
    """Make a tensor of numbers, rounded to `dtype`."""
    array = np.asarray(values, np.float64)
    raw = from_floats(array.reshape(-1), dtype)
    return Tensor(TensorSpec(dtype=dtype, shape=array.shape), raw.tobytes())


def integers(values: Sequence[int]) -> Tensor:
    return Tensor(TensorSpec(dtype="I64", shape=(len(values),)), np.asarray(values, np.int64).tobytes())


def make_model(seed: int = 0, dtype: str = "F32") -> Model:
    """Make a model with everything that models have: matrices, a scalar, an empty tensor, an integer buffer."""
    rng = np.random.default_rng(seed)
    return {
        "embeddings.weight": floats(rng.normal(size=(50, 8)), dtype),
        "layer.weight": floats(rng.normal(size=(8, 8)), dtype),
        "layer.bias": floats(rng.normal(size=8), dtype),
        "scale": floats(rng.normal(), dtype),
        "empty": floats(np.zeros((0, 4)), dtype),
        "position_ids": integers(range(10)),
    }


def make_changes(model: Model, seed: int) -> dict[str, np.ndarray]:
    """Make a delta of some of a model's tensors; every contributor leaves the layer's bias alone."""
    rng = np.random.default_rng(seed + 1000)
    names = [name for name, tensor in model.items() if tensor.spec.is_fused and name != "layer.bias"]
    return {name: (rng.normal(size=model[name].spec.shape) * 0.01).astype(np.float32) for name in names}


def finetune(model: Model, seed: int) -> Model:
    """Return the model that `make_changes` makes of a base."""
    changes = make_changes(model, seed)
    return model | {n: floats(model[n].floats.astype(np.float64) + d, model[n].spec.dtype) for n, d in changes.items()}


def write_file(path: Path, tensors: Model) -> None:
    header = format_header([(name, tensor.spec) for name, tensor in tensors.items()], {"format": "pt"})
    path.write_bytes(header + b"".join(tensor.data for tensor in tensors.values()))


def write_model(folder: Path, model: Model, *, num_files: int = 1) -> Path:
    """Write a model folder, with an index if it has several files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    if num_files == 1:
        write_file(folder / "model.safetensors", model)
        return folder
    per_file = math.ceil(len(model) / num_files)
    weight_map = {name: f"model-{1 + i // per_file:05d}-of-{num_files:05d}.safetensors" for i, name in enumerate(model)}
    for file in set(weight_map.values()):
        write_file(folder / file, {name: model[name] for name in model if weight_map[name] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def parse_file(data: bytes) -> Model:
    """Read a safetensors file with the library that defines it."""
    return {
        name: Tensor(TensorSpec(dtype=entry["dtype"], shape=entry["shape"]), bytes(entry["data"]))
        for name, entry in safetensors.deserialize(data)
    }


def read_model(folder: Path) -> Model:
    """Read all tensors of a model folder, with the library."""
    return {name: t for file in folder.glob("*.safetensors") for name, t in parse_file(file.read_bytes()).items()}


def read_release(federation: Federation, number: int | None = None) -> Model:
    """Read a release's tensors from the store, with the library."""
    release = federation.latest() if number is None else federation.release(number)
    model: Model = {}
    for path, parts in release.files.items():
        if path.endswith(".safetensors"):
            model |= parse_file(federation.objects.open(parts).read(0, parts.size_bytes))
    return model


def make_federation(
    root: Path,
    model: Model,
    *,
    num_files: int = 1,
    method: str = "mean",
    quorum: int = 2,
    deadline_s: float = 60.0,
    screening: ScreeningRules | None = None,
    statistics: StatisticsRule | None = None,
    gate: GateRules | None = None,
    weighting: Weighting | None = None,
    **rules: object,
) -> Federation:
    """Create a federation in a folder; `rules` are the others of `RoundRules`."""
    folder = write_model(root / "base", model, num_files=num_files)
    rules |= {"quorum": quorum, "deadline_s": deadline_s}
    store = LocalStore(root / "store")
    return create_federation(
        store, name="tiny", base=folder, origin="base", method=method, rules=rules, screening=screening,
        statistics=statistics, gate=gate, weighting=weighting,
    )  # fmt: skip


def store_delta(
    objects: Objects, schema: Schema, changes: Mapping[str, np.ndarray], *, encoding: str, base_digest: str
) -> Blob:
    """Put a delta into the store as a contributor would, and return its parts."""
    header = delta_header(schema, changes, encoding=encoding, base_digest=base_digest)
    body = b"".join(from_floats(changes[name].reshape(-1), encoding).tobytes() for name in sorted(changes))
    layouts = plan_parts(parse_header(header[8:], what="test"))
    data = header + body
    return Blob(parts=tuple(put_part(data[p.start : p.start + p.size_bytes], objects.put) for p in layouts))


def make_contribution(
    federation: Federation,
    contributor: str,
    changes: Mapping[str, np.ndarray],
    *,
    encoding: str = "F32",
    schema: Schema | None = None,
    **different: object,
) -> ContributionManifest:
    """Put a delta on the latest release into the store, and return its manifest, with some things different."""
    latest = federation.latest()
    schema = schema or open_base(federation, latest).schema
    base_digest = str(different.get("base_digest", latest.model_digest))
    delta = store_delta(federation.objects, schema, changes, encoding=encoding, base_digest=base_digest)
    values: dict[str, object] = {
        "federation": federation.settings.federation, "contributor": contributor, "round": federation.current_round(),
        "base_release": latest.release, "base_digest": base_digest, "encoding": encoding,
        "num_examples": 100, "num_steps": 10, "delta": delta, "delta_digest": blob_digest(delta),
    }  # fmt: skip
    return ContributionManifest.model_validate(values | different)


def receive(
    federation: Federation, manifest: ContributionManifest, *, at_s: float = 0.0, signature: Signature | None = None
) -> str:
    """Acknowledge a contribution as a gateway does, and return its digest."""
    digest = federation.objects.put_value(manifest)
    event = Received(
        contribution=digest, contributor=manifest.contributor, received_at_s=at_s, signature=signature
    )  # fmt: skip
    federation.journal(manifest.round).receive(event)
    return digest


def contribute(federation: Federation, contributor: str, changes: Mapping[str, np.ndarray], **options: object) -> str:
    """Store, describe and acknowledge a contribution."""
    return receive(federation, make_contribution(federation, contributor, changes, **options))  # type: ignore[arg-type]


_CLOCKS: dict[tuple[str, int], tuple[list[float], RoundClock]] = {}
"""A clock for each round of each store, which tests set, and what measures the round's age by it."""


def clock_of(federation: Federation, number: int, now_s: float) -> RoundClock:
    """Return what measures a round's age for a leader that stays, with its clock set; it never goes back."""
    if (federation.store.url, number) not in _CLOCKS:
        times = [now_s]
        _CLOCKS[federation.store.url, number] = times, RoundClock(lambda: times[0])
    times, clock = _CLOCKS[federation.store.url, number]
    times[0] = max(times[0], now_s)
    return clock


def make_round(
    federation: Federation, number: int = 1, *, executor: Executor | None = None, now_s: float = 0.0
) -> Round:
    """Make a round on the latest release, as an aggregator does that has read nothing yet."""
    return Round(
        federation=federation,
        journal=federation.journal(number),
        base=open_base(federation, federation.latest()),
        executor=executor or ThreadExecutor(1),
        now_s=lambda: now_s,
        clock=clock_of(federation, number, now_s),
    )


def lead(
    federation: Federation, number: int = 1, *, executor: Executor | None = None, now_s: float = 0.0
) -> list[LeaderEvent]:
    """Advance a round until nothing is left to do, as an aggregator that has just started; return what it appended."""
    events: list[LeaderEvent] = []
    round_ = make_round(federation, number, executor=executor, now_s=now_s)
    while new := advance(round_):
        events += new
    return events


def naive_mean(
    model: Model, changes: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float] | None = None
) -> Model:
    """Fuse tensor by tensor, all at once, in float64."""
    weights = weights or [1.0] * len(changes)
    fused = {}
    for name, tensor in model.items():
        if tensor.spec.is_fused and any(name in change for change in changes):
            pairs = zip(weights, changes, strict=True)
            total = sum(w * change[name].astype(np.float64) for w, change in pairs if name in change)
            fused[name] = floats(tensor.floats.astype(np.float64) + total / sum(weights), tensor.spec.dtype)
        else:
            fused[name] = tensor
    return fused
