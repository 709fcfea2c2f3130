"""Rounds for aggregators that are killed: contributions laid into the store as by a gateway, and what came of them."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from coldfuse.aggregator.model import open_base
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import EVENT, Admitted, Received, Rejected
from coldfuse.core.serialization import blob_digest
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.tensors.deltas import delta_header, write_safetensors
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.parts import Piece

SINGLE = {"opened", "closed", "fused", "published", "abandoned"}
"""Events that a round has once at most."""


def make_federation_of(base: Path, folder: Path, *, quorum: int = 2) -> Federation:
    """Create a federation on a model folder."""
    rules = {"quorum": quorum, "deadline_s": 3600.0}
    return create_federation(
        LocalStore(folder), name="tiny", base=base, origin="made by a test", method="weighted-mean", rules=rules
    )


def contribute(federation: Federation, name: str, folder: Path, *, num_examples: int, is_broken: bool = False) -> str:
    """Lay a contribution to the next round into the store, acknowledged; the same name gives the same delta."""
    release = federation.latest()
    schema = open_base(federation, release).schema
    rng = np.random.default_rng(list(name.encode()))

    def read(piece: Piece) -> np.ndarray:
        values = rng.normal(scale=0.01, size=piece.num_elements).astype(np.float32)
        values[0] = np.nan if is_broken else values[0]
        return values.view(np.uint8)

    names = [tensor for tensor, spec in schema.items() if spec.is_fused]
    header = delta_header(schema, names, encoding="F32", base_digest=release.model_digest)
    path = folder / f"{name}.safetensors"
    delta = write_safetensors(path, header, read)
    with LocalFile(path).open() as file:
        start = 0
        for part in delta.parts:
            data = bytearray(part.size_bytes)
            file.read_into(memoryview(data), start)
            federation.objects.put(part.digest, data)
            start += part.size_bytes
    manifest = ContributionManifest(
        federation=federation.settings.federation,
        contributor=name,
        round=release.round + 1,
        base_release=release.release,
        base_digest=release.model_digest,
        encoding="F32",
        num_examples=num_examples,
        num_steps=1,
        delta=delta,
        delta_digest=blob_digest(delta),
    )
    digest = federation.objects.put_value(manifest)
    received = Received(contribution=digest, contributor=name, received_at_s=time.time())
    assert federation.journal(manifest.round).receive(received)
    return digest


def contribute_three(federation: Federation, folder: Path) -> dict[str, str]:
    """Lay a broken contribution and two good ones into the store; return who sent which.

    The broken one comes first: an aggregator that is awake closes the round with the second good one.
    """
    return {
        contribute(federation, "eve", folder, num_examples=900, is_broken=True): "eve",
        contribute(federation, "ada", folder, num_examples=100): "ada",
        contribute(federation, "bob", folder, num_examples=300): "bob",
    }


def is_done(federation: Federation) -> bool:
    """Whether round 1 is over and the next one open."""
    return federation.journal(1).state().is_over and federation.journal(2).head() is not None


def journal_keys(federation: Federation, number: int) -> list[str]:
    """List a round's entries."""
    return [key.rpartition("/")[2] for key in federation.store.list(f"rounds/{number:05d}/journal/").keys]


def verdicts(federation: Federation, entries: list[str]) -> Iterator[str]:
    """Yield the contribution of every verdict that the entries of round 1 hold."""
    for entry in entries:
        match EVENT.validate_json(federation.store.get(f"rounds/00001/journal/{entry}")):
            case Admitted(admissions=admissions):
                yield from (admission.contribution for admission in admissions)
            case Rejected(rejections=rejections):
                yield from (rejection.contribution for rejection in rejections)


def assert_round_is_whole(federation: Federation, sent: dict[str, str]) -> None:
    """One sequence without gaps, each single event once, one verdict for each contribution, the good ones fused."""
    state = federation.journal(1).state()
    entries = [key for key in journal_keys(federation, 1) if not key.endswith("-received")]
    assert [int(key.partition("-")[0]) for key in entries] == list(range(len(entries)))
    events = Counter(key.partition("-")[2] for key in entries)
    assert [event for event in SINGLE if events[event] > 1] == []
    assert {sent[digest] for digest in state.admitted} == {"ada", "bob"}
    assert {sent[digest] for digest in state.rejected} == {"eve"}
    assert Counter(verdicts(federation, entries)) == Counter(list(sent))  # exactly one each, in however many events
    assert "NaN or infinite" in next(iter(state.rejected.values())).reason
    assert set(state.closed.contributions) == set(state.admitted)
    assert len(federation.store.list("releases/").keys) == 2
    assert federation.latest().model_digest == state.fused.model_digest


def assert_same_model(release: ReleaseManifest, other: ReleaseManifest) -> None:
    """The same tensors, and the same bytes in every file."""
    assert release.model_digest == other.model_digest
    assert release.files == other.files
