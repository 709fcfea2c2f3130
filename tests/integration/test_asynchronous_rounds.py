"""An asynchronous federation: contributors of different speed, a real gateway, an aggregator that waits for nobody."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tiny_rounds import make_changes, make_federation, make_model, naive_mean, read_release

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.cli.closing import rules_of
from coldfuse.cli.options.closing import ClosingWords
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.dtypes import from_floats
from coldfuse.core.serialization import blob_digest, sha256
from coldfuse.core.staleness import staleness_weight
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import RoundClosedError
from coldfuse.gateway import Decision, Status
from coldfuse.registry.federation import Federation
from coldfuse.tensors.blobs import BlobReader
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.header import parse_header
from coldfuse.tensors.parts import plan_parts
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway

MODEL = make_model()
SPEEDS_S = {"quick": 0.0, "steady": 0.2, "slow": 0.9}
ENOUGH = {"quick": 4, "steady": 3, "slow": 2}
"""Contributions that each of them gets fused."""
PATIENCE_S = 60.0


@contextmanager
def aggregator(federation: Federation) -> Iterator[None]:
    stop = threading.Event()
    settings = AggregatorSettings(poll_s=0.01, lease_ttl_s=5.0)

    def lead() -> None:
        for _ in serve_rounds(federation, ThreadExecutor(1), settings, stop=stop):
            pass

    thread = threading.Thread(target=lead)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Contributor:
    """Trains for as long as it takes, and sends what it has made to whichever round is open then."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.client = GatewayClient(address, retry_s=PATIENCE_S)
        self.acknowledged: dict[str, ContributionManifest] = {}
        self.changes: dict[str, Mapping[str, np.ndarray]] = {}
        self.late = 0
        self.until_s = time.monotonic() + PATIENCE_S

    def run(self) -> None:
        with self.client:
            for number in range(ENOUGH[self.name]):
                status = self.client.status()
                changes = make_changes(MODEL, len(self.name) * 100 + number)
                blob, data = self.delta(changes, status.latest.model_digest)
                time.sleep(SPEEDS_S[self.name])  # its training
                self.client.upload(blob, BlobReader(blob, data).read_into)
                while not self.send(changes, blob, status):
                    self.late += 1

    def send(self, changes: Mapping[str, np.ndarray], blob: Blob, made_on: Status) -> bool:
        """Commit, and wait for the verdict and the round's end; False where it has to be sent again."""
        now = self.wait_until(lambda status: status.round.is_open)
        manifest = ContributionManifest(
            federation=now.federation, contributor=self.name, round=now.round.number,
            base_release=made_on.latest.number, base_digest=made_on.latest.model_digest, encoding="F32",
            num_examples=1, num_steps=1, delta=blob, delta_digest=blob_digest(blob),
        )  # fmt: skip
        try:
            verdict = self.client.commit(manifest)
        except RoundClosedError:
            return False
        self.acknowledged[verdict.contribution] = manifest
        while (verdict := self.client.verdict(manifest.round, verdict.contribution)).decision is Decision.PENDING:
            self.pause()
        if verdict.is_late:
            return False
        assert verdict.decision is Decision.ADMITTED, verdict.reason
        self.changes[verdict.contribution] = changes
        self.wait_until(lambda status: status.latest.number != now.latest.number)
        return True

    def wait_until(self, is_so) -> Status:  # type: ignore[no-untyped-def]
        while not is_so(status := self.client.status()):
            self.pause()
        return status

    def pause(self) -> None:
        assert time.monotonic() < self.until_s, f"{self.name} waits in vain: {self.client.status().round.waits_for}"
        time.sleep(0.01)

    def delta(self, changes: Mapping[str, np.ndarray], base_digest: str):  # type: ignore[no-untyped-def]
        schema = {name: tensor.spec for name, tensor in MODEL.items()}
        header = delta_header(schema, changes, encoding="F32", base_digest=base_digest)
        data = header + b"".join(from_floats(changes[name].reshape(-1), "F32").tobytes() for name in sorted(changes))
        layouts = plan_parts(parse_header(header[8:], what="test"))
        parts = {sha256(part): part for part in (data[p.start : p.start + p.size_bytes] for p in layouts)}

        def read(digest: str, buffer: memoryview, start: int) -> None:
            buffer[:] = parts[digest][start : start + len(buffer)]

        blob = Blob.model_validate({"parts": [{"digest": d, "size_bytes": len(part)} for d, part in parts.items()]})
        return blob, read


def test_contributors_of_different_speed_are_all_fused_each_with_its_weight(tmp_path: Path) -> None:
    rules = rules_of(ClosingWords(publish_every=1))
    federation = make_federation(tmp_path, MODEL, **rules)  # type: ignore[arg-type]
    with aggregator(federation), serve_gateway(federation) as gateway:
        people = [Contributor(name, gateway.address) for name in SPEEDS_S]
        with ThreadPoolExecutor(len(people)) as pool:
            list(pool.map(Contributor.run, people))
    releases = [federation.release(number) for number in range(1, federation.latest().release + 1)]
    fused = {c.contribution: (c, release) for release in releases for c in release.contributions}
    assert Counter(c.contributor for c, _ in fused.values()) == ENOUGH
    verdicts: Counter[str] = Counter()
    for number in range(1, federation.current_round() + 1):
        state = federation.journal(number).state()
        verdicts.update([*state.admitted, *state.rejected])
        assert all(r.is_late for r in state.rejected.values())
    acknowledged = {digest for person in people for digest in person.acknowledged}
    assert acknowledged <= verdicts.keys()
    assert set(verdicts.values()) == {1}
    changes = {digest: change for person in people for digest, change in person.changes.items()}
    assert fused.keys() == changes.keys()
    for contribution, release in fused.values():
        stale = 0 if contribution.base_release is None else release.parent - contribution.base_release
        weight = None if contribution.base_release is None else staleness_weight("polynomial(a=0.5)", stale)
        assert contribution.staleness_weight == weight
    assert any(c.base_release is not None for c, _ in fused.values() if c.contributor == "slow")
    for release in releases:
        weighted = [
            {k: v.astype(np.float64) * (c.staleness_weight or 1.0) for k, v in changes[c.contribution].items()}
            for c in release.contributions
        ]
        assert read_release(federation, release.release) == naive_mean(
            read_release(federation, release.release - 1), weighted
        )
