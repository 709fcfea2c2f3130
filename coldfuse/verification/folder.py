"""Verifying a fetched folder: its files, the statement on how they were made, and the roots that fetch brought."""

from __future__ import annotations

from pathlib import Path

from coldfuse.consumer import is_file_of
from coldfuse.consumer.folder import OWN, read_fetched
from coldfuse.core.model_files import PROVENANCE_FILE
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, encode, sha256
from coldfuse.errors import CodecError, TrustError, UserInputError
from coldfuse.storage import LocalStore
from coldfuse.trust.model_signature import root_digest
from coldfuse.trust.provenance import Statement, read_statement, require_about
from coldfuse.trust.signed_folder import verify_folder as verify_files
from coldfuse.trust.view import root_key
from coldfuse.verification.anchor import Known
from coldfuse.verification.causes import Cause
from coldfuse.verification.findings import Report
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.signers import Signers, follow_roots


def is_fetched(folder: Path) -> bool:
    """Tell whether `coldfuse fetch` has written a folder."""
    return (folder / OWN / "written.json").is_file()


def read_root(folder: Path) -> bytes | None:
    """Return the first root that a fetch has brought, unverified; None where the federation has none."""
    try:
        with open(folder / OWN / root_key(1), "rb") as file:
            return file.read(MAX_MANIFEST_BYTES)
    except OSError:
        return None


def verify_folder(folder: Path, known: Known, *, at_s: float) -> Report:
    """Verify a folder that a fetch has written.

    Args:
        folder: The folder.
        known: By what the federation is known.
        at_s: Seconds since 1970 at which it is judged what has expired.

    Raises:
        UserInputError: No release lies there whole.
    """
    manifest = read_fetched(folder)
    if manifest is None:
        raise UserInputError(f"{folder}: no release lies here whole; fetch it again")
    look = Inspection(LocalStore(folder / OWN), at_s)
    signers = None
    if known.fingerprint is None and read_root(folder) is None:
        look.note("nothing is known of a root: only bytes can be verified; give --root FINGERPRINT")
    else:
        signers = follow_roots(look, known.fingerprint)
    if signers is not None and known.fingerprint is None:
        look.note(f"the root {signers.fingerprint} is the folder's own word: compare it with its operator's")
    if signers is not None and signers.newest.version < known.seen.root:
        newest = signers.newest.version
        look.add(Cause.ROLLED_BACK, "root", f"is version {newest}, and {known.seen.root} was seen; fetch it again")
    statement = _statement(look, folder, manifest, signers)
    _look_at_files(look, folder, manifest)
    if signers is not None and statement is not None:
        _look_at_signature(look, folder, signers, statement)
    return Report(
        fingerprint=signers.fingerprint if signers else None, release=manifest.release, looked_at=look.looked_at,
        findings=look.findings.sorted(), num_more=look.findings.num_more, notes=tuple(look.notes),
    )  # fmt: skip


def _statement(
    look: Inspection, folder: Path, manifest: ReleaseManifest, signers: Signers | None
) -> Statement | None:  # fmt: skip
    if signers is None:
        look.add(Cause.UNSIGNED, f"release {manifest.release}", "nobody is known who could have signed it")
        return None
    try:
        with open(folder / PROVENANCE_FILE, "rb") as file:
            data = file.read(MAX_MANIFEST_BYTES)
    except OSError:
        look.add(Cause.SIGNATURE, PROVENANCE_FILE, "is missing: nobody has signed what this release was made from")
        return None
    payload = signers.open(
        look, data, "provenance", "aggregator", key=PROVENANCE_FILE, at_s=manifest.created_at_s
    )  # fmt: skip
    if payload is None:
        return None
    try:
        statement = read_statement(payload, what=PROVENANCE_FILE)
        require_about(statement, manifest, digest=sha256(encode(manifest)), what=PROVENANCE_FILE)
    except (TrustError, CodecError) as error:
        look.error(PROVENANCE_FILE, error)
        return None
    look.looked_at["signatures of releases"] += 1
    return statement


def _look_at_files(look: Inspection, folder: Path, manifest: ReleaseManifest) -> None:
    for path, blob in sorted(manifest.files.items()):
        look.looked_at["files read whole"] += 1
        if not (folder / path).is_file():
            look.add(Cause.GAP, path, "is missing")
        elif not is_file_of(blob, folder / path):
            look.add(Cause.DIGEST, path, "is not what the release's manifest names")


def _look_at_signature(look: Inspection, folder: Path, signers: Signers, statement: Statement) -> None:
    if statement.files is None:
        return
    try:
        signed = verify_files(folder, signers.keys_of("model"))
    except (TrustError, CodecError) as error:
        look.error("model.sig", error)
        return
    look.looked_at["signatures of folders"] += 1
    if root_digest(signed.digests) != statement.files:
        look.add(Cause.SIGNATURE, "model.sig", "is another release's: the statement on this one names other files")
