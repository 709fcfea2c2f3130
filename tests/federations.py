"""Small federations, and contributions to them, for tests of everything that works on a store."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Admitted, Opened
from coldfuse.core.serialization import blob_digest, sha256
from coldfuse.registry.creation import create
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.trust import found
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.blobs import BlobReader, ReadRange
from coldfuse.trust.founding import FounderKeys

FEDERATION = sha256(b"a federation")
BASE_DIGEST = sha256(b"the base's tensors")
BASE_CONFIG = b'{"model_type": "tiny"}'
BASE_MODEL = bytes(range(256)) * 4096


@dataclass(frozen=True)
class Delta:
    """A file to upload: its parts, and how to read it."""

    blob: Blob
    read_range: ReadRange


def make_federation(
    store: ObjectStore,
    *,
    rules: RoundRules | None = None,
    max_contribution_bytes: int = 1 << 40,
    trust: FounderKeys | None = None,
    name: str | None = None,
) -> Federation:
    """Create a federation with a release 0 of two files, on keys or without; no round is open.

    On keys its name is the root's, unless it is said, as where a federation was adopted.
    """
    settings = _settings(rules or RoundRules(), max_contribution_bytes)
    if trust is not None:
        root = found(store, trust)
        settings = settings.model_copy(update={"root": root, "federation": name or root})
    federation = Federation(store, settings)
    files = {"config.json": BASE_CONFIG, "model.safetensors": BASE_MODEL}
    release = ReleaseManifest(
        federation=settings.federation,
        release=0,
        parent=None,
        round=0,
        method="base",
        model_digest=BASE_DIGEST,
        files={name: _store(federation, data) for name, data in files.items()},
        created_at_s=1.0,
    )
    return create(store, settings, release, trust=trust)


def open_round(federation: Federation, number: int = 1) -> None:
    """Open a round on release 0, as an aggregator does."""
    federation.journal(number).append(Opened(base_release=0, base_digest=BASE_DIGEST, opened_at_s=time.time()))


def admit(federation: Federation, contribution: str) -> Journal:
    """Admit a contribution to round 1, as an aggregator does; return the journal, which knows of it."""
    journal = federation.journal(1)
    journal.state()
    admission = Admission(contribution=contribution, contributor="ada", delta_digest="0" * 64, num_examples=1)
    journal.append(Admitted(admissions=(admission,)))
    return journal


def make_delta(sizes: Sequence[int], *, seed: int = 0) -> Delta:
    """Make random parts of these sizes."""
    rng = random.Random(seed)
    data = [rng.randbytes(size) for size in sizes]
    parts = {sha256(part): part for part in data}

    def read(digest: str, buffer: memoryview, start: int) -> None:
        buffer[:] = parts[digest][start : start + len(buffer)]

    blob = Blob(parts=tuple(Part(digest=sha256(part), size_bytes=len(part)) for part in data))
    return Delta(blob, BlobReader(blob, read).read_into)


def make_manifest(delta: Blob, /, **changes: object) -> ContributionManifest:
    """Make a contribution to round 1 on release 0 that a gateway takes, but for the changes."""
    values: dict[str, object] = {
        "federation": FEDERATION,
        "contributor": "ada",
        "round": 1,
        "base_release": 0,
        "base_digest": BASE_DIGEST,
        "encoding": "F32",
        "num_examples": 100,
        "num_steps": 10,
        "delta": delta,
        "delta_digest": blob_digest(delta),
    }
    return ContributionManifest.model_validate(values | changes)


def _settings(rules: RoundRules, max_contribution_bytes: int) -> FederationSettings:
    return FederationSettings(
        federation=FEDERATION,
        name="tiny",
        rules=rules,
        method="mean",
        created_at_s=1.0,
        base="hand-made",
        release_zero=sha256(b"not read by anybody yet"),
        max_contribution_bytes=max_contribution_bytes,
    )


def _store(federation: Federation, data: bytes) -> Blob:
    federation.objects.put(sha256(data), data)
    return Blob(parts=(Part(digest=sha256(data), size_bytes=len(data)),))
