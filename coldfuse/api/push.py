"""Pushing a release to the Hub."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coldfuse.api.bars import Watching, is_watched, watching
from coldfuse.api.connect import connect
from coldfuse.api.federation import Federation, Folder
from coldfuse.config import home_folder
from coldfuse.consumer import fetch as fetch_release
from coldfuse.consumer import read_fetched
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.errors import CodecError, UserInputError
from coldfuse.extras import requiring
from coldfuse.gateway import Gateway
from coldfuse.publishing.pushed import Pushed, Pushing
from coldfuse.registry.channels import check_channel
from coldfuse.trust.root import fingerprint_of
from coldfuse.verification.anchor import Known, known_anchor
from coldfuse.verification.folder import is_fetched, read_root


def push(  # noqa: PLR0913 - what there is to say, by keyword
    source: Folder | Federation,
    repository: str,
    *,
    release: int | None = None,
    root: str | None = None,
    branch: str = "main",
    public: bool = False,
    overwrite: bool = False,
    allow_older: bool = False,
    out: Folder | None = None,
    dry_run: bool = False,
) -> Pushed:
    """Push a verified release to the Hub: its files, its card and its signature, in one commit, tagged `release-N`.

    The token is the one that huggingface_hub finds: of `hf auth login`, or HF_TOKEN.

    Args:
        source: A federation, or where one is, or a folder that `fetch` wrote.
        repository: `hf://OWNER/NAME`; it is created private if there is none.
        release: Number of the release; the latest by default.
        root: The federation's fingerprint, as its operator says it; None: by what this user knows it already.
        branch: Branch of the repository.
        public: True to create it public, or to push into one that is.
        overwrite: True to replace what somebody else has put there; its history keeps it.
        allow_older: True to go back behind the release that is there.
        out: Folder to fetch the release into, which stays; a temporary one by default.
        dry_run: True to send nothing, and return what would be sent.

    Raises:
        UserInputError: It is no such repository or branch, or no release lies in the folder whole.
        TrustError: What is there does not verify; nothing is sent.
        NotAllowedError: The Hub does not allow it, or the repository is public and `public` is not given.
        ConflictError: The repository holds what coldfuse has not pushed, or a newer release.
        StorageError: The Hub did not take it; pushed again, it goes on.
        TransportError: The Hub is out of reach.
    """
    pushing = Pushing(is_public=public, overwrite=overwrite, allow_older=allow_older)
    with ExitStack() as stack:
        if not isinstance(source, Federation) and is_fetched(Path(source)):
            folder, known = Path(source), known_of(Path(source), root=root)
            require_release(folder, release)
        else:
            federation = source if isinstance(source, Federation) else stack.enter_context(connect(source, root=root))
            folder = stack.enter_context(place_for(None if out is None else Path(out)))
            known = bring(federation._gateway, folder, "latest" if release is None else release)
        return push_folder(folder, repository, known, pushing, branch=branch, dry_run=dry_run)


def push_folder(
    folder: Path, repository: str, known: Known, pushing: Pushing, *, branch: str = "main", dry_run: bool = False
) -> Pushed:
    """Verify a folder and push it; raises as `push`."""
    with requiring("coldfuse push", "fuse"):
        from coldfuse.publishing import push as pushes  # noqa: PLC0415 - huggingface_hub takes a while
        from coldfuse.publishing.folder import outgoing  # noqa: PLC0415
        from coldfuse.publishing.hub import Repository, discreet, parse_address  # noqa: PLC0415
    where = Repository(parse_address(repository), branch=branch)
    pushes.require_verified(folder, known, now_s=time.time())
    if dry_run:
        manifest, files = outgoing(folder, with_provenance=pushing.with_provenance)
        return pushes.planned(manifest, files, where)
    with discreet(is_watched=is_watched()):
        return pushes.push(folder, where, pushing)


def known_of(folder: Path, *, root: str | None) -> Known:
    """Return by what the federation of a fetched folder is known here."""
    data = read_root(folder)
    try:
        claimed = None if data is None else fingerprint_of(data)
    except CodecError:
        claimed = None
    return known_anchor(home_folder(), source=os.path.realpath(folder), claimed=claimed, wanted=root)


def bring(gateway: Gateway, folder: Path, which: int | str, *, progress: Watching = None) -> Known:
    """Fetch a release into a folder, and return by what its federation is known."""
    which = check_channel(which) if isinstance(which, str) else which
    with watching("fetching", progress) as on_progress:
        fetch_release(gateway, folder, which=which, progress=on_progress, allow_older=True)
    return Known(gateway.fingerprint if isinstance(gateway, TrustedGateway) else None)


@contextmanager
def place_for(out: Path | None) -> Iterator[Path]:
    """Give the folder that a release is fetched into: the user's own, or one that goes with the block."""
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="coldfuse-push-") as scratch:
        yield Path(scratch) / "release"


def require_release(folder: Path, release: int | None) -> None:
    """Raise `UserInputError` if another release lies in a folder than the one that was asked for."""
    manifest = read_fetched(folder)
    if release is not None and manifest is not None and manifest.release != release:
        raise UserInputError(
            f"{folder}: holds release {manifest.release}, and {release} was asked for; leave the number out, or name "
            "the federation"
        )
