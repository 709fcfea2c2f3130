"""Readers of what lies on disks: a federation's store, a node's folder, and a folder that a fetch wrote."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from coldfuse.consumer import fetch
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.work import Sent, Trained
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Score
from coldfuse.core.sealed import seal
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import ColdfuseError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import open_federation
from coldfuse.registry.lease import LeaseRecord, read_lease
from coldfuse.storage import LocalStore, MemoryStore
from fuzz.running import Reader

RECORDED = Path(__file__).parents[1] / "data" / "layout_1" / "store.tar.gz"
ROUND = "rounds/00004"
DIGEST = sha256(b"x")


def stored_readers(root: Path) -> dict[str, Reader]:
    """Readers of every kind of object in a store, by what everybody asks of it; and of folders."""
    with tarfile.open(RECORDED) as tar:
        tar.extractall(root / "store", filter="data")
    store = LocalStore(root / "store")
    lease = LeaseRecord(holder="h:1:aa", renewal=3, ttl_s=10.0, expires_at_s=1.0)
    store.put_if_absent("leases/aggregator", encode(lease))
    objects = {key: store.get(key) for key in keys_of(store)}
    received = next(key for key in objects if key.startswith(ROUND) and key.endswith("-received"))
    manifest = f"objects/{received.rpartition('/')[2].removesuffix('-received')}"
    names = [
        "federation.json", "settings/00001.json", "channels/latest", "releases/00002.json", "releases/00000.json",
        "leases/aggregator", f"{ROUND}/head", f"{ROUND}/journal/00000000-opened", received, "rounds/00003/head",
        manifest,
    ]  # fmt: skip
    short = {received: f"{ROUND}/journal/…-received", manifest: "objects/… of a manifest"}
    readers = {f"store {short.get(key, key)}": store_reader(objects, key) for key in names}
    return readers | node_readers(root / "node") | fetched_readers(objects, root / "fetched")


def keys_of(store: LocalStore) -> Iterator[str]:
    after: str | None = None
    while True:
        page = store.list("", after=after)
        yield from page.keys
        if page.next_after is None:
            return
        after = page.next_after


def memory_of(objects: dict[str, bytes]) -> MemoryStore:
    store = MemoryStore()
    store._objects = dict(objects)
    return store


def store_reader(objects: dict[str, bytes], key: str) -> Reader:
    def read(data: bytes) -> None:
        store = memory_of(objects)
        store._objects[key] = data
        ask_everything(store)

    return Reader(read, (objects[key],), is_slow=True)


def ask_everything(store: MemoryStore) -> None:
    """Ask a store all that anybody asks; the last refusal is raised again."""
    federation = open_federation(store)
    received = next(iter(federation.journal(4).state().received), DIGEST)
    refusal: ColdfuseError | None = None
    with StoreGateway(federation, num_threads=2) as gateway:
        questions: list[Callable[[], object]] = [
            gateway.status,
            lambda: list(gateway.releases()),
            lambda: list(gateway.changes()),
            lambda: [gateway.release(which) for which in ("latest", 0, 2)],
            lambda: gateway.verdict(4, received),
            lambda: read_lease(store),
            lambda: federation.journal(3).state(),
            federation.current_round,
        ]
        for ask in questions:
            try:
                ask()
            except ColdfuseError as error:
                refusal = error
    if refusal is not None:
        raise refusal


def node_readers(root: Path) -> dict[str, Reader]:
    """Readers of a node's state: whatever lies there, it is a value or nothing, and never an error."""
    trained = Trained(
        base_release=0, base_digest=DIGEST, work_digest=DIGEST, num_examples=1, num_steps=1,
        score=Score(before=0.0, after=1.0), encoding="F32", delta=Blob(parts=(Part(digest=DIGEST, size_bytes=1),)),
    )  # fmt: skip
    sent = Sent(federation=DIGEST, round=1, contribution=DIGEST, trained=trained)
    work = WorkFolder(root, lambda sentence: None)

    def read_state() -> None:
        try:
            work.trained(base_digest=DIGEST, work_digest=DIGEST)
            work.sent()
        except ColdfuseError as error:
            raise AssertionError("a node ended at its own file") from error

    return {
        "node's trained.json": _file(root / "trained.json", read_state, seal(trained), encode(trained)),
        "node's sent.json": _file(root / "sent.json", read_state, seal(sent)),
    } | torch_readers(root)


def torch_readers(root: Path) -> dict[str, Reader]:
    """Readers of what training keeps."""
    import torch

    from coldfuse.training.checkpoint import Position, load_checkpoint, save_checkpoint
    from coldfuse.training.head import LinearHead, read_head, save_head

    checkpoint, head = root / "checkpoint.safetensors", root / "head.safetensors"
    save_checkpoint(
        checkpoint, identity="x", position=Position(score_before=0.5, loss_before=1.0), tensors={"a": torch.ones(2)}
    )
    save_head(head, LinearHead(weight=torch.ones(2, 3), bias=torch.ones(2)), ["bad", "good"])

    def load() -> None:
        load_checkpoint(checkpoint, identity="x", on_damage=lambda sentence: None)

    return {
        "node's checkpoint": _file(checkpoint, load, checkpoint.read_bytes()),
        "node's head": _file(head, lambda: read_head(head), head.read_bytes()),
    }


def fetched_readers(objects: dict[str, bytes], out: Path) -> dict[str, Reader]:
    """Readers of what a fetch left in its folder: whatever it is, the next fetch makes the folder whole."""
    gateway = StoreGateway(open_federation(memory_of(objects)), num_threads=2)
    fetch(gateway, out)
    manifest = gateway.release()
    wanted = {path: (out / path).read_bytes() for path in manifest.files}

    def read() -> None:
        fetch(gateway, out, allow_older=True)
        assert {path: (out / path).read_bytes() for path in manifest.files} == wanted

    own = out / ".coldfuse"
    names = [own / name for name in ("release.json", "written.json", "seen.json", "lock")]
    readers = {f"fetched {path.name}": _file(path, read, path.read_bytes()) for path in names}
    mark = own / "pieces" / sha256(b"x")
    mark.parent.mkdir(exist_ok=True)
    config = _file(out / "config.json", read, (out / "config.json").read_bytes())
    return readers | {"fetched config.json": config}


def _file(path: Path, read: Callable[[], object], *seeds: bytes) -> Reader:
    def read_file(data: bytes) -> object:
        path.write_bytes(data)
        return read()

    return Reader(read_file, seeds, is_slow=True)
