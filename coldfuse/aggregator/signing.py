"""Sign a release: hash those of its files of which nobody knows the SHA-256 yet, on the workers, a task a file."""

from __future__ import annotations

from itertools import accumulate

from coldfuse.core.federation import Terms
from coldfuse.core.release import ReleaseManifest
from coldfuse.engine.execution import Executor
from coldfuse.registry.federation import Federation
from coldfuse.registry.signing import ReleaseSigners, hash_file, is_signed, known_digests, write_signatures
from coldfuse.tensors.checks import checks_of
from coldfuse.tensors.files import BlobFile


def sign_release(
    federation: Federation,
    manifest: ReleaseManifest,
    executor: Executor,
    *,
    signers: ReleaseSigners,
    terms: Terms | None,
    journal_head: str | None = None,
) -> None:
    """Sign a release whose files lie in the store, before it is published; doing so again is success.

    Args:
        federation: The federation.
        manifest: The release to be published.
        executor: Runs the tasks that read files.
        signers: Who signs.
        terms: What its round was opened with.
        journal_head: Head of the journal's chain; None where none is kept.

    Raises:
        ConflictError: Another aggregator has published another release under its number, or is about to.
        DamagedObjectError: A part is damaged.
        StorageError: The store is away.
    """
    if is_signed(federation, manifest, signers):  # an earlier try got this far
        return
    digests = known_digests(federation, manifest, signers) if signers.model is not None else {}
    files = [
        BlobFile(federation.store.url, blob, path, checks_of(blob, manifest.checks.get(path)))
        for path, blob in manifest.files.items()
        if path not in digests and signers.model is not None
    ]
    for index, digest in executor.run(hash_one, None, files):
        digests[files[index].name] = digest
    write_signatures(federation, manifest, digests, signers=signers, terms=terms, journal_head=journal_head)


def mend_signatures(federation: Federation, executor: Executor) -> bool:
    """Sign the latest release anew, as the leader, where its signatures are lost or damaged, or its key was replaced.

    Which release that is, and what, the channel says, which is signed itself. Raises as `sign_release`.

    Returns:
        True if they were written.
    """
    signers = federation.signer
    if federation.trust is None or signers is None:
        return False
    latest = federation.latest()
    if not federation.settings.is_signed_release(latest.release) or is_signed(federation, latest, signers):
        return False
    journal = federation.journal(latest.round) if latest.round else None  # the base was made in no round
    opened = journal.state().opened if journal else None
    sign_release(
        federation, latest, executor, signers=signers, terms=opened.terms if opened else None,
        journal_head=journal.newest_link() if journal else None,
    )  # fmt: skip
    return True


def hash_one(_: None, file: BlobFile) -> str:
    """Return the SHA-256 of a file in parts, each of which is verified as it is read: what a task does."""
    return hash_file(file, cuts=tuple(accumulate(part.size_bytes for part in file.blob.parts)))
