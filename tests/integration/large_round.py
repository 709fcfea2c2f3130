"""A round on a base with the sizes of a 7B model, in one process: what it screens, plans and fuses, and its memory.

Every part of the base is 16 MiB of zeros, which a store holds once: the sizes are real, the content is cheap. Of the
fused model only what somebody changed is made. Prints what was found as JSON; its arguments are a folder and the
memory that the aggregator may take, in bytes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from coldfuse.aggregator.model import Base, open_base
from coldfuse.aggregator.release import _open_input, _prepare, most_contributions
from coldfuse.aggregator.round import Round, advance
from coldfuse.aggregator.standing import standing
from coldfuse.aggregator.stored import read_files
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.dtypes import from_floats
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Received
from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import blob_digest, encode, sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.fuse import Making, Prepared, fuse_part, read_ahead
from coldfuse.engine.job import holding_factors, require_memory, task_bytes
from coldfuse.engine.plan import Shard, all_shards
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.sinks import StoreWriter
from coldfuse.registry.creation import create
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects
from coldfuse.registry.round_clock import RoundClock
from coldfuse.storage import LocalStore
from coldfuse.tensors.changes import ChangesByName, LowRankChange, write_changes
from coldfuse.tensors.checks import make_list
from coldfuse.tensors.header import format_header, parse_header
from coldfuse.tensors.parts import plan_parts

FEDERATION = "f" * 64
HIDDEN, INNER, LAYERS, WORDS, RANK = 4096, 11008, 32, 32_000, 16
CHANGED = ("model.layers.0.self_attn.q_proj.weight", "model.layers.31.self_attn.v_proj.weight")


def peak_bytes() -> int:
    """Return the most memory that this process took; `getrusage` begins with that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def schema() -> dict[str, TensorSpec]:
    """Return the tensors of Llama 2 7B."""
    shapes: dict[str, tuple[int, ...]] = {"model.norm.weight": (HIDDEN,)}
    shapes |= dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (WORDS, HIDDEN))
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes |= {f"{at}.{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    return {name: TensorSpec(dtype="BF16", shape=shapes[name]) for name in sorted(shapes)}


def make_federation(store: LocalStore) -> Federation:
    """Create a federation on a base of zeros; a part of zeros is made once for each size."""
    objects, made = Objects(store), dict[int, tuple[str, bytes]]()
    head = format_header(schema().items(), {"format": "pt"})
    config = b'{"model_type": "llama", "tie_word_embeddings": false}'

    def put(data: bytes) -> tuple[str, bytes]:
        objects.put(sha256(data), data)
        return sha256(data), make_list(data)

    sizes = [layout.size_bytes for layout in plan_parts(parse_header(head[8:], what="base"))]
    for size in sizes[1:]:
        made[size] = made.get(size) or put(bytes(size))
    found = [put(head), *(made[size] for size in sizes[1:])]
    parts = [Part(digest=digest, size_bytes=size) for (digest, _), size in zip(found, sizes, strict=True)]
    files = {"model.safetensors": Blob(parts=tuple(parts)), "config.json": Blob(parts=(part_of(put(config), config),))}
    release = ReleaseManifest(
        federation=FEDERATION, release=0, parent=None, round=0, method="base", model_digest="b" * 64, files=files,
        checks={"model.safetensors": objects.put_checks([checks for _, checks in found])}, created_at_s=0.0,
    )  # fmt: skip
    settings = FederationSettings(
        federation=FEDERATION, name="large", rules=RoundRules(quorum=2, deadline_s=60.0), method="mean",
        created_at_s=0.0, base="zeros", release_zero=sha256(encode(release)),
    )  # fmt: skip
    return create(store, settings, release)


def part_of(put: tuple[str, bytes], data: bytes) -> Part:
    return Part(digest=put[0], size_bytes=len(data))


def factors(seed: int, name: str) -> LowRankChange:
    rng = np.random.default_rng([seed, CHANGED.index(name)])
    up, down = rng.normal(size=(HIDDEN, RANK)), rng.normal(size=(RANK, HIDDEN))
    return LowRankChange((0.01 * up).astype(np.float32), (0.01 * down).astype(np.float32), 2.0)


def contribute(federation: Federation, seed: int, folder: Path) -> int:
    """Send factors; return their bytes."""
    path, latest = folder / f"{seed}.safetensors", federation.latest()
    changes = ChangesByName(CHANGED, lambda name: factors(seed, name))
    delta = write_changes(path, schema(), changes, dtype="F32", base_digest=latest.model_digest)
    with open(path, "rb") as file:
        for part in delta.parts:
            federation.objects.put(part.digest, file.read(part.size_bytes))
    manifest = ContributionManifest.model_validate({
        "federation": FEDERATION, "contributor": f"c{seed}", "round": 1, "base_release": 0, "delta": delta,
        "base_digest": latest.model_digest, "encoding": "F32", "num_examples": 100, "num_steps": 10,
        "delta_digest": blob_digest(delta), "trained": "lora",
    })  # fmt: skip
    digest = federation.objects.put_value(manifest)
    federation.journal(1).receive(Received(contribution=digest, contributor=f"c{seed}", received_at_s=0.0))
    return delta.size_bytes


def prepared_for(federation: Federation, base: Base, executor: ThreadExecutor) -> Prepared:
    """Plan the round's fusion as it is run, in the memory that there is."""
    recipe, admissions = read_recipe("mean"), federation.journal(1).state().admitted.values()
    counted = standing(list(admissions), recipe, federation.settings.screening, {})
    files = read_files(federation, [each.admission for each in counted], None)
    inputs = [_open_input(base, each, of, None) for each, of in zip(counted, files, strict=True)]
    prepared = read_ahead(_prepare(federation, base, inputs, recipe), executor)
    fusion = holding_factors(prepared.fusion, prepared.plan, executor.task_bytes)
    require_memory(fusion, prepared.plan, executor.task_bytes)
    return replace(prepared, fusion=fusion)


def is_changed(shard: Shard) -> bool:
    return any(any(piece.contributions) for piece in shard.pieces)


def is_right(federation: Federation, shard: Shard, part: Part) -> bool:
    """Hold the first elements of a part against the mean by its definition."""
    (piece,) = shard.pieces
    assert piece.first == 0
    mean = sum(factors(seed, piece.tensor).read(0, 3 * HIDDEN) for seed in (1, 2)) / 2
    found = federation.objects.open(Blob(parts=(part,))).read(0, 2 * 3 * HIDDEN)
    return found == from_floats(mean, "BF16").tobytes()


def main(folder: Path, memory_bytes: int) -> dict[str, object]:
    federation = make_federation(LocalStore(folder / "store"))
    base, executor = open_base(federation, federation.latest()), ThreadExecutor(1, memory_bytes=memory_bytes)
    clock = RoundClock(lambda: 0.0)
    round_ = Round(
        federation=federation, journal=federation.journal(1), base=base, executor=executor, now_s=lambda: 0.0,
        clock=clock,
    )  # fmt: skip
    advance(round_)
    sent_bytes = [contribute(federation, seed, folder) for seed in (1, 2)]
    events = [event.event for event in advance(round_)]
    prepared = prepared_for(federation, base, executor)
    shards = all_shards(prepared.plan)
    changed = [shard for shard in shards if is_changed(shard)]
    same = next(shard for shard in shards if not is_changed(shard))
    there = frozenset(part.digest for blob in base.release.files.values() for part in blob.parts)
    making = Making(fusion=prepared.fusion, writer=StoreWriter(federation.store.url, there))
    made = dict(executor.run(fuse_part, making, [*changed, same]))
    parts = [made[index][0].parts[0].part for index in range(len(made))]
    return {
        "base_bytes": base.release.files["model.safetensors"].size_bytes, "sent_bytes": sent_bytes, "events": events,
        "kinds": sorted({a.measured.kind for a in federation.journal(1).state().admitted.values()}),
        "planned_bytes": task_bytes(prepared.fusion, prepared.plan), "num_shards": len(shards),
        "num_changed": len(changed), "num_moved": sum(part.num_moved for parts in made.values() for part in parts),
        "is_right": is_right(federation, changed[0], parts[0]), "is_kept": parts[-1].digest in there,
        "most": most_contributions(federation, base, executor),
        "peak_bytes": peak_bytes(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
