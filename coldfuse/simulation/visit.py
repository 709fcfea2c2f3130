"""One contributor's way through a round: look, upload, commit, and die where the plan says so.

A crash cuts the connection in the middle of what was going on, as the end of a process does. Who comes back sends the
same delta again, as a node does that finds its finished work: parts that have arrived are not sent twice, and a commit
that was taken before is answered with the same verdict.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.serialization import blob_digest, encode, sha256
from coldfuse.errors import ColdfuseError, ContributionRejectedError, GatewayBusyError, RoundClosedError
from coldfuse.gateway import Status
from coldfuse.simulation.deltas import DeltaMaker, Packed
from coldfuse.simulation.plan import CrashPoint, Visit
from coldfuse.transport.client import GatewayClient

_RETRY_S = 60.0


class End(Enum):
    """How a visit ended."""

    ACKNOWLEDGED = "acknowledged"
    CRASHED = "crashed"
    CLOSED = "closed"
    """The gateway said that the round takes nothing more, or not yet."""
    REFUSED = "refused"
    """The gateway said that it can never take this."""
    FAILED = "failed"
    """The gateway could not be reached, or failed, for as long as a client tries."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a visit."""

    contributor: int
    round: int
    end: End
    contribution: str
    """Digest of the manifest, if it got so far; empty otherwise."""
    began_s: float
    """Seconds since 1970 when it connected."""
    ended_s: float
    commit_s: float | None
    """Seconds from sending the commit to its acknowledgement."""
    sent_bytes: int
    repeated: Mapping[str, int] = field(default_factory=dict)
    """Refusals and failures that were followed by another try, by kind."""
    reason: str = ""
    """What the gateway said, where it said no."""


class _CrashedError(Exception):
    """The contributor is dead."""


@dataclass
class _Record:
    """What is noted on the way."""

    began_s: float = field(default_factory=time.time)
    contribution: str = ""
    commit_s: float | None = None
    sent_bytes: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    is_dead: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def trouble(self, error: ColdfuseError) -> None:
        if self.is_dead:
            return
        with self.lock:
            self.repeated["busy" if isinstance(error, GatewayBusyError) else "failed"] += 1


def make_visit(visit: Visit, status: Status, maker: DeltaMaker, address: str, *, crashes: bool) -> Outcome:
    """Go through a round, and say what came of it; nothing is raised for what a gateway does.

    Args:
        visit: What is planned.
        status: The federation when the round opened: what the contributor has trained on.
        maker: Makes the delta.
        address: The gateway.
        crashes: False for who has crashed already and is back.
    """
    packed = maker.pack(maker.delta(visit.contributor, visit.round), status.latest.model_digest)
    record, crash = _Record(), visit.crash if crashes else None
    try:
        with GatewayClient(address, retry_s=_RETRY_S, on_trouble=record.trouble) as client:
            _send(client, _manifest(visit, status, packed), packed, record, crash)
            return _outcome(visit, record, End.ACKNOWLEDGED)
    except _CrashedError:
        return _outcome(visit, record, End.CRASHED)
    except RoundClosedError as error:
        return _outcome(visit, record, End.CLOSED, str(error))
    except ContributionRejectedError as error:
        return _outcome(visit, record, End.REFUSED, str(error))
    except (ColdfuseError, ValueError) as error:  # ValueError: gRPC's word for a call after hanging up
        return _outcome(visit, record, End.CRASHED if record.is_dead else End.FAILED, str(error))


def _send(
    client: GatewayClient, manifest: ContributionManifest, packed: Packed, record: _Record, crash: CrashPoint | None
) -> None:
    half = len(packed.data) // 2

    def read(buffer: memoryview, start: int) -> None:
        end = start + len(buffer)
        if crash is CrashPoint.UPLOAD and end > half:
            record.is_dead = True
            client.close()
            raise _CrashedError
        buffer[:] = packed.data[start:end]

    record.sent_bytes = client.upload(manifest.delta, read).sent_bytes
    if crash in (CrashPoint.UPLOAD, CrashPoint.BEFORE_COMMIT):  # of a delta that was there already nothing was read
        raise _CrashedError
    try:
        _commit(client, manifest, record, crash)
    except RoundClosedError:
        _commit(client, _moved(client.status(), manifest), record, crash)


def _commit(client: GatewayClient, manifest: ContributionManifest, record: _Record, crash: CrashPoint | None) -> None:
    record.contribution = sha256(encode(manifest))
    began_s = time.perf_counter()
    client.commit(manifest)
    if crash is CrashPoint.AFTER_COMMIT:
        raise _CrashedError
    record.commit_s = time.perf_counter() - began_s


def _moved(now: Status, manifest: ContributionManifest) -> ContributionManifest:
    """Return the manifest for the round that is open, if the federation takes what is late there; else raise again."""
    age = now.latest.number - manifest.base_release
    if not now.round.is_open or now.round.number == manifest.round or not age <= now.rules.oldest:
        raise RoundClosedError(f"round {manifest.round} is over, and {now.rules.lateness}")
    return manifest.model_copy(update={"round": now.round.number})


def _manifest(visit: Visit, status: Status, packed: Packed) -> ContributionManifest:
    return ContributionManifest(
        federation=status.federation,
        contributor=visit.contributor.name,
        round=visit.round,
        base_release=status.latest.number,
        base_digest=status.latest.model_digest,
        encoding="F32",
        num_examples=100 + visit.contributor.number % 100,
        num_steps=10,
        delta=packed.blob,
        delta_digest=blob_digest(packed.blob),
    )


def _outcome(visit: Visit, record: _Record, end: End, reason: str = "") -> Outcome:
    return Outcome(
        contributor=visit.contributor.number, round=visit.round, end=end, contribution=record.contribution,
        began_s=record.began_s, ended_s=time.time(), commit_s=record.commit_s, sent_bytes=record.sent_bytes,
        repeated=dict(record.repeated), reason=reason,
    )  # fmt: skip
