"""Signatures of releases: who made them and from what, and one that other tools verify in the folder.

    releases/<n>.model.sig      OpenSSF model signature over the release's files, by the model key
    releases/<n>.sig            statement on the release's making, by the aggregator's key; it names the other by its
                                subject, so that neither can be exchanged for that of another release

Both are written before a channel points to the release: nobody ever sees a release that is not signed yet. Nothing is
hashed twice: the digest of a file that is one part is known, and that of a file that the parent has is in the parent's
signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol

from coldfuse.core.blob import Blob
from coldfuse.core.federation import Terms
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import blob_digest, decode, encode, sha256
from coldfuse.errors import CodecError, ConflictError, SignatureError, StorageError
from coldfuse.registry.federation import Federation
from coldfuse.registry.published import is_anothers
from coldfuse.registry.releases import read_statement_of, release_key
from coldfuse.registry.trust import read_signed
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.files import File, opened
from coldfuse.tensors.folders import existing
from coldfuse.trust.envelope import sign, verified
from coldfuse.trust.keys import PublicKey, Signer
from coldfuse.trust.model_signature import SignedFiles, model_signature_key, read_signature, root_digest, sign_files
from coldfuse.trust.provenance import Statement, read_statement, statement_key, statement_of

_STEP_BYTES = 4 << 20
"""Number of bytes of a file that are hashed at a time."""

_PARALLEL = 4
"""Number of a model's files that are hashed at a time where nobody says how many."""


class ReleaseSigners(Protocol):
    """Who signs releases."""

    @property
    def aggregator(self) -> Signer:
        """Signs what a release was made from."""

    @property
    def model(self) -> Signer | None:
        """Signs its folder: ECDSA on P-256; None: nobody does."""


def write_signatures(
    federation: Federation,
    manifest: ReleaseManifest,
    digests: Mapping[str, str],
    *,
    signers: ReleaseSigners,
    terms: Terms | None,
    journal_head: str | None = None,
) -> None:
    """Sign a release before it is published; doing so again is success, with the same bytes.

    Args:
        federation: The federation.
        manifest: The release to be published.
        digests: SHA-256 of each of its files, whole; none are needed where nobody signs the folder.
        signers: Who signs.
        terms: What its round was opened with.
        journal_head: Head of the journal's chain; None where none is kept.

    Raises:
        ConflictError: Another aggregator has published another release under its number, or is about to.
    """
    store, data, bundle, files = federation.store, encode(manifest), None, None
    if signers.model is not None:
        whole = {path: digests[path] for path in manifest.files}
        name = f"{manifest.federation[:16]}/{manifest.release}"
        bundle, files = sign_files(whole, name=name, signer=signers.model), root_digest(whole)
    payload = statement_of(
        manifest, digest=sha256(data), parent=_parent_of(federation, manifest), files=files, terms=terms,
        journal_head=journal_head,
    )  # fmt: skip
    _require_free(federation, manifest, data)
    _require_newest(federation, manifest, signers)
    if bundle is not None:
        _put(store, model_signature_key(manifest.release), bundle)
    _put(store, statement_key(manifest.release), sign(payload, "provenance", [signers.aggregator]))


def is_signed(federation: Federation, manifest: ReleaseManifest, signers: ReleaseSigners) -> bool:
    """Tell whether the signatures of exactly this release are there, and fit each other.

    They have to be by keys of the newest root; where there is none, by these signers'.
    """
    if signers.model is not None:
        return _signed_files(federation, manifest, signers) is not None
    return _own_statement(federation, manifest, signers) is not None


def known_digests(
    federation: Federation, manifest: ReleaseManifest, signers: ReleaseSigners | None = None
) -> dict[str, str]:
    """Return the SHA-256 of those files of a release of which it is known without reading them."""
    known = _digests_of_parent(federation, manifest, signers) if signers else {}
    found = {}
    for path, blob in manifest.files.items():
        digest = _digest_of_one(blob) or known.get(blob_digest(blob))
        if digest is not None:
            found[path] = digest
    return found


def whole_digests(model: Checkpoint) -> dict[str, str]:
    """Return the SHA-256 of each file of a model that lies in a folder, several at a time."""
    names = [*model.files, *model.plain]
    files = [model.files[name].file if name in model.files else existing(model.folder, name) for name in names]
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="hash") as pool:
        return dict(zip(names, pool.map(hash_file, files), strict=True))


def hash_file(file: File, cuts: Sequence[int] = ()) -> str:
    """Return the SHA-256 of a file, whatever it lies in; a little of it is in memory at a time.

    Args:
        file: The file.
        cuts: Offsets over which no read goes, in order, as between parts that are verified one by one.
    """
    digest, start, buffer = hashlib.sha256(), 0, memoryview(bytearray(min(_STEP_BYTES, file.size_bytes)))
    with opened(file) as reader:
        for end in (*cuts, file.size_bytes):
            while start < end:
                piece = buffer[: end - start]
                reader.read_into(piece, start)
                digest.update(piece)
                start += len(piece)
    return digest.hexdigest()


def sign_anew(store: ObjectStore, number: int, payload: bytes, signer: Signer) -> None:
    """Replace the signature of a release's statement by another aggregator's; what it says stays."""
    _put(store, statement_key(number), sign(payload, "provenance", [signer]))


def _own_statement(federation: Federation, manifest: ReleaseManifest, signers: ReleaseSigners) -> Statement | None:
    """Return the statement on a release if an aggregator has signed it."""
    try:
        digest = sha256(encode(manifest))
        return read_statement_of(federation.store, manifest, digest=digest, keys=_keys(federation, signers.aggregator))
    except (SignatureError, CodecError):
        return None


def _signed_files(federation: Federation, manifest: ReleaseManifest, signers: ReleaseSigners) -> SignedFiles | None:
    """Return what is signed of a release's files, where the statement on its making says the same."""
    statement = _own_statement(federation, manifest, signers)
    bundle = read_signed(federation.store, model_signature_key(manifest.release))
    if statement is None or bundle is None or signers.model is None:
        return None
    try:
        signed = read_signature(bundle, _keys(federation, signers.model, role="model"))
    except (SignatureError, CodecError):
        return None
    fits = root_digest(signed.digests) == statement.files and signed.digests.keys() == manifest.files.keys()
    return signed if fits else None


def _keys(
    federation: Federation, signer: Signer, *, role: Literal["aggregator", "model"] = "aggregator"
) -> list[PublicKey]:
    """Return the keys whose signatures count."""
    return federation.trust.known().root.keys_of(role) if federation.trust is not None else [signer.public]


def _digests_of_parent(federation: Federation, manifest: ReleaseManifest, signers: ReleaseSigners) -> Mapping[str, str]:
    """Return what the parent's signature says of its files, by the digests of their lists of parts."""
    if manifest.parent is None:
        return {}
    try:
        parent = decode(ReleaseManifest, federation.release_bytes(manifest.parent), what=release_key(manifest.parent))
        signed = _signed_files(federation, parent, signers)
    except (StorageError, CodecError):  # it has to be signed all the same: they are read
        return {}
    return {blob_digest(parent.files[path]): digest for path, digest in signed.digests.items()} if signed else {}


def _digest_of_one(blob: Blob) -> str | None:
    """Return the SHA-256 of a file that is one part, or empty."""
    if len(blob.parts) > 1:
        return None
    return blob.parts[0].digest if blob.parts else sha256(b"")


def _parent_of(federation: Federation, manifest: ReleaseManifest) -> str | None:
    return None if manifest.parent is None else sha256(federation.release_bytes(manifest.parent))


def _require_free(federation: Federation, manifest: ReleaseManifest, data: bytes) -> None:
    there = read_signed(federation.store, release_key(manifest.release))
    if there is None or there == data:
        return
    if is_anothers(federation.store, federation.settings, federation.trust, there, manifest.release):
        raise ConflictError(f"release {manifest.release} was published by another aggregator")


def _require_newest(federation: Federation, manifest: ReleaseManifest, signers: ReleaseSigners) -> None:
    """Refuse to replace the signature of a later round: whoever made that leads now."""
    key, keys = statement_key(manifest.release), _keys(federation, signers.aggregator)
    data = read_signed(federation.store, key)
    try:
        statement = data and read_statement(verified(data, "provenance", keys, what=key))
    except (SignatureError, CodecError):
        return
    if statement and statement.parameters.round > manifest.round:
        raise ConflictError(f"release {manifest.release} was signed by an aggregator in a later round")


def _put(store: ObjectStore, key: str, data: bytes) -> None:
    """Write a signature; one of a round that was abandoned, or that is damaged, gives way."""
    if store.put_if_absent(key, data):
        return
    there, etag = store.get_with_etag(key)
    if there != data:
        store.compare_and_swap(key, data, etag=etag)
