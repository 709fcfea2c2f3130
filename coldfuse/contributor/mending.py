"""What a node does where its disk, or the way to the gateway, has changed bytes: it notices, says so, and goes on.

The base is hashed before it is trained on and again once the delta is written, which costs a second a gigabyte and
makes sure that no delta is the difference from another model than the one that it names. The delta is hashed before
it is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coldfuse.consumer import fetch, is_whole
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.work import Sent, Trained
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import CodecError, ObjectNotFoundError, TransportError
from coldfuse.gateway import Gateway, OnProgress
from coldfuse.tensors.blobs import ReadRange
from coldfuse.tensors.files import LocalFile

Tell = Callable[[str], None]
"""tell(sentence): is told what was found, and what becomes of it."""

_SENDING_TRIES = 3
_ROUNDS_ASKED = 16


def mend_base(gateway: Gateway, folder: Path, manifest: ReleaseManifest, tell: Tell) -> bool:
    """Hash the node's copy of the base, and fetch again what is not what it was; False if all was right."""
    if is_whole(folder, manifest, verify=True):
        return False
    fetched = fetch(gateway, folder, which=manifest.release, verify=True)
    tell(f"{folder}: the copy of the base was damaged; {fetched.downloaded_bytes:,} bytes of it were fetched again")
    return True


def send_files(
    gateway: Gateway, work: WorkFolder, trained: Trained, *, check: Callable[[], None], progress: OnProgress, tell: Tell
) -> bool:
    """Upload the delta and what travels beside it, a mask once; False if one is damaged here, and has to be made again.

    Args:
        gateway: Where to.
        work: Where it lies.
        trained: What it should be.
        check: Called before each read; what it raises ends the upload.
        progress: Called after every chunk.
        tell: Told of a try that failed because other bytes arrived than were sent.

    Raises:
        TransportError: Again and again, other bytes arrive.
    """
    for tries_left in reversed(range(_SENDING_TRIES)):
        if not work.has_files(trained):
            return False
        try:
            for blob, path in _to_be_sent(work, trained):
                with LocalFile(path).open() as file:
                    gateway.upload(blob, _checked(file.read_into, check), progress=progress)
        except CodecError as error:
            if not work.has_files(trained):  # it changed while it was read
                return False
            trouble = f"the delta was changed on its way ({error})"
            if not tries_left:
                raise TransportError(f"{trouble}; look for a proxy or a memory fault, or use TLS") from error
            tell(f"{trouble}; sending it again")
        else:
            return True
    return False


def _to_be_sent(work: WorkFolder, trained: Trained) -> list[tuple[Blob, Path]]:
    """Return the files that a gateway does not have already: a mask is sent once for many rounds."""
    return [(blob, path) for blob, path in work.files(trained) if blob != trained.mask or not work.masks.is_sent(blob)]


def _checked(read_range: ReadRange, check: Callable[[], None]) -> ReadRange:
    def read(buffer: memoryview, start: int) -> None:
        check()  # a large delta on a thin line takes hours
        read_range(buffer, start)

    return read


def recall(gateway: Gateway, work: WorkFolder, manifest: ContributionManifest) -> Sent | None:
    """Ask the gateway what was sent, where the note of it was damaged; None if nothing is known, or nothing was lost.

    Args:
        gateway: Where it went.
        work: The work that may have been sent.
        manifest: What would be sent now. It was the same in an earlier round, but for the number.
    """
    for number in range(manifest.round, max(manifest.round - _ROUNDS_ASKED, 0), -1):
        contribution = sha256(encode(manifest.model_copy(update={"round": number})))
        try:
            gateway.verdict(number, contribution)
        except ObjectNotFoundError:
            continue
        sent = Sent(federation=manifest.federation, round=number, contribution=contribution)
        work.save_sent(sent)
        return sent
    work.forget_sent()
    return None
