"""Signatures of the releases so far, once the aggregator's key was replaced: the new key takes the history over.

Clients believe the keys of the newest root alone, so what an older key has signed would be refused from then on. Which
release is the latest the channel says, which is signed anew; each release's statement names its parent by the SHA-256
of its manifest. So what hangs on the latest release by its digests is signed anew, word for word, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.rollback import Rollback
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.errors import (
    CodecError,
    DamagedObjectError,
    FederationError,
    SignatureError,
    StorageError,
    TrustError,
)
from coldfuse.registry.federation import Federation
from coldfuse.registry.releases import release_key
from coldfuse.registry.rollbacks import read_rollback
from coldfuse.registry.signing import sign_anew
from coldfuse.registry.trust import read_signed
from coldfuse.trust.envelope import read_envelope, verified
from coldfuse.trust.provenance import Statement, read_statement, require_about, statement_key
from coldfuse.trust.view import TrustView

log = logging.getLogger(__name__)

_Signed = tuple[int, bytes, str]
"""Number of a release, the statement on it, and the id of the key that has signed that."""


def take_over_history(federation: Federation) -> int:
    """Sign anew, as the leader, the statements on releases by keys that were replaced; return how many these were.

    The oldest release comes last: as long as it is not signed anew, another leader begins again. What is damaged, or
    does not hang on what came after it, ends the walk: it is named in the log, and left as it is.

    Raises:
        ConflictError: Another aggregator does the same.
        StorageError: The store is away.
    """
    trust, signer = federation.trust, federation.signer
    if trust is None or signer is None:
        return 0
    current = {key.id for key in trust.known().root.keys_of("aggregator")}
    adopted = federation.settings.adopted
    if _signer_of(federation, adopted.release + 1 if adopted else 0) in (None, *current):
        return 0
    count = 0
    for number, payload, keyid in _releases(federation, trust):
        if keyid not in current:
            sign_anew(federation.store, number, payload, signer.aggregator)
            count += 1
    return count


def _signer_of(federation: Federation, number: int) -> str | None:
    """Return whose signature a release bears, unverified; None where it bears none."""
    data = read_signed(federation.store, statement_key(number))
    try:
        signatures = read_envelope(data, what=statement_key(number)).signatures if data is not None else ()
    except CodecError:
        return None
    return signatures[0].keyid if signatures else None


def _releases(federation: Federation, trust: TrustView) -> Iterator[_Signed]:
    """Yield what is signed of each release: first what was rolled back, and is read by its number still."""
    latest = federation.channel("latest")
    line = _history(federation, trust, latest.release, latest.manifest)
    if latest.rollback is None:
        yield from line
        return
    own = list(line)
    seen = {number for number, _, _ in own}
    for rollback in _rollbacks(federation, latest.rollback):
        for one in _history(federation, trust, rollback.left, rollback.left_manifest):
            if one[0] in seen:
                break
            seen.add(one[0])
            yield one
    yield from own


def _rollbacks(federation: Federation, last: Rollback) -> Iterator[Rollback]:
    """Yield the steps back of `latest`, newest first, each named by the one after it."""
    yield last
    while last.before is not None:
        try:
            before = read_rollback(federation.store, federation.trust, last.number - 1)
        except (StorageError, CodecError, TrustError) as error:
            log.warning("what was rolled back before is not signed anew: %s", error)
            return
        if sha256(encode(before)) != last.before:
            return
        yield before
        last = before


def _history(federation: Federation, trust: TrustView, number: int, expected: str) -> Iterator[_Signed]:
    """Yield number and statement of each release from this one on, and the id of the key that has signed it."""
    while federation.settings.is_signed_release(number):
        try:
            payload, keyid = _verified(federation, trust, number)
            manifest, statement = _read(federation, number, payload, expected)
        except (SignatureError, CodecError, DamagedObjectError, FederationError) as error:
            log.warning("release %d and what came before is not signed anew: %s", number, error)
            return
        yield number, payload, keyid
        if manifest.parent is None or statement.parent is None:
            return
        number, expected = manifest.parent, statement.parent


def _verified(federation: Federation, trust: TrustView, number: int) -> tuple[bytes, str]:
    key, ever = statement_key(number), trust.ever("aggregator")
    data = read_signed(federation.store, key)
    if data is None:
        raise SignatureError(f"{key}: is not there; nobody has signed the release, or somebody has removed it")
    payload = verified(data, "provenance", [each for _, each in ever.values()], what=key)
    return payload, next(each.keyid for each in read_envelope(data, what=key).signatures if each.keyid in ever)


def _read(federation: Federation, number: int, payload: bytes, expected: str) -> tuple[ReleaseManifest, Statement]:
    """Return a release's manifest and its statement, where both are what was made use of afterwards."""
    data, key = federation.release_bytes(number), statement_key(number)
    if sha256(data) != expected:
        raise SignatureError(
            f"{release_key(number)}: is {sha256(data)[:12]}, and what came after it names {expected[:12]}"
        )
    manifest, statement = decode(ReleaseManifest, data, what=release_key(number)), read_statement(payload, what=key)
    require_about(statement, manifest, digest=expected, what=key)
    return manifest, statement
