"""What nobody has changed is not written to a store again."""

from __future__ import annotations

from pathlib import Path

from tiny_rounds import make_federation, make_model

from coldfuse.core.serialization import sha256
from coldfuse.engine.plan import PartTask
from coldfuse.engine.shard import FusedBytes
from coldfuse.engine.sinks import StoreWriter

DATA = bytes(range(200))


def fused(data: bytes, **state: bytes) -> FusedBytes:
    part = PartTask(index=1, start=0, size_bytes=len(data), pieces=())
    views = {slot: memoryview(held) for slot, held in state.items()}
    return FusedBytes(part=part, data=memoryview(data), blocks={}, state=views, num_moved=0, cuts={})


def test_a_part_of_the_base_is_named_and_not_written(tmp_path: Path) -> None:
    store = make_federation(tmp_path, make_model()).store
    writer = StoreWriter(store.url, frozenset({sha256(DATA)}))
    kept, state = writer.write("model", fused(DATA, momentum=b"new"))
    assert (kept.part.digest, kept.part.size_bytes) == (sha256(DATA), len(DATA))
    assert store.head(f"objects/{sha256(DATA)}") is None
    assert store.get(f"objects/{state.part.digest}") == b"new"


def test_the_same_bytes_are_written_once(tmp_path: Path) -> None:
    store = make_federation(tmp_path, make_model()).store
    writer = StoreWriter(store.url)
    (first,) = writer.write("model", fused(DATA))
    assert store.get(f"objects/{first.part.digest}") == DATA
    store.delete(f"objects/{first.part.digest}")
    assert writer.write("model", fused(DATA)) == (first,)
    assert store.head(f"objects/{first.part.digest}") is None
