"""What was seen of a federation, so that nothing older is ever believed: in memory, and in the user's own folder.

    seen.json      versions of root, members, settings and channels; `seen.lock` is held while they change
    newest.json    envelope of the newest root that was verified: whoever has stolen the keys of an older one cannot
                   make another next one for those who have seen this

Several processes share the folder: each looks at what is there, decides and writes, under a lock.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import encode, sha256
from coldfuse.core.value import Digest, Name, Value
from coldfuse.durable import explained, write_whole
from coldfuse.errors import CodecError, RollbackError
from coldfuse.trust.channel import SIGNERS, SignedChannel
from coldfuse.trust.home import FederationFolder, make_private_folder
from coldfuse.trust.root import Root, read_known_root

MAX_SOURCES = 1000
"""Addresses and stores that are remembered of one federation."""


class SeenChannel(Value):
    """The newest that was seen of a channel."""

    version: Count
    digest: Digest
    """SHA-256 of what it says."""


class Seen(Value):
    """The newest versions that were seen, below which nothing is believed."""

    root: Count = 0
    members: Count = 0
    settings: Count = 0
    """Number of the newest change of the settings."""
    channels: dict[Name, SeenChannel] = Field(default_factory=dict)
    """The channels by their names."""
    signers: tuple[Digest, ...] = ()
    """Ids of the keys that could sign channels and members when these were seen."""
    sources: Annotated[tuple[str, ...], Field(max_length=MAX_SOURCES)] = ()
    """Addresses and stores that have shown this federation's root: without one they are somebody else."""


def with_root(seen: Seen, root: Root) -> Seen:
    """Return what was seen once a root was, too.

    Where a key is gone that could sign channels or members, these count anew: whoever had stolen it may have counted
    so far ahead that nothing true would ever be newer (TUF 1.0.34, 5.3.11: fast-forward).

    Raises:
        RollbackError: A newer root was seen before.
    """
    if root.version < seen.root:
        raise RollbackError(
            f"root {root.version}: is handed out as the newest, and {seen.root} was seen before; somebody hides it, or "
            "the store was put back to an older state"
        )
    signers = tuple(sorted({keyid for role in SIGNERS for keyid in root.roles[role].keys}))
    if set(seen.signers) <= set(signers):
        return seen.model_copy(update={"root": root.version, "signers": signers})
    return Seen(root=root.version, signers=signers, sources=seen.sources)


def with_members(seen: Seen, version: int) -> Seen:
    """Return what was seen once a list of members was, too; raises `RollbackError` if a newer one was before."""
    if version < seen.members:
        raise RollbackError(
            f"members {version}: is handed out as the newest, and {seen.members} was seen before; somebody hides it"
        )
    return seen.model_copy(update={"members": version})


def with_settings(seen: Seen, number: int) -> Seen:
    """Return what was seen once a change of the settings was, too; 0 stands for those of the beginning.

    Raises:
        RollbackError: A newer one was seen before.
    """
    if number < seen.settings:
        raise RollbackError(
            f"federation.json: holds change {number} of the settings, and {seen.settings} was seen before; somebody "
            "has put an older one back, or hands it out"
        )
    return seen.model_copy(update={"settings": number})


def with_channel(seen: Seen, channel: SignedChannel) -> Seen:
    """Return what was seen once a channel was, too.

    Raises:
        RollbackError: A newer version of it was seen before, or the same one that said something else.
    """
    new = SeenChannel(version=channel.version, digest=sha256(encode(channel)))
    before = seen.channels.get(channel.name)
    if before is not None and new.version < before.version:
        raise RollbackError(
            f"channel {channel.name}: version {new.version} is handed out, and {before.version} was seen before; "
            "somebody hands out an older state, or the store was put back to one"
        )
    if before is not None and new.version == before.version and new.digest != before.digest:
        raise RollbackError(
            f"channel {channel.name}: version {new.version} was seen before, and said something else: its signer says "
            "two things at once, or has lost the key"
        )
    return seen.model_copy(update={"channels": seen.channels | {channel.name: new}})


class Memory:
    """What was seen; with a folder, for all later processes, too. Threads may share it."""

    def __init__(self, folder: FederationFolder | None = None) -> None:
        """Take the federation's folder; None to forget with the process."""
        self._folder = folder
        self._seen = Seen()
        self._root: bytes | None = None
        self._lock = threading.Lock()

    def seen(self) -> Seen:
        """Return what was seen.

        Raises:
            CodecError: The note of it is damaged.
        """
        if self._folder is None:
            return self._seen
        path = self._folder.path / "seen.json"
        try:
            return unseal(Seen, path.read_bytes(), what=str(path))
        except FileNotFoundError:
            return Seen()
        except CodecError as error:
            raise CodecError(f"{error}; remove it to begin anew, where you trust what you reach now") from error

    def change(self, change: Callable[[Seen], Seen]) -> Seen:
        """Change what was seen, alone; what `change` raises leaves it as it was.

        Raises:
            UserInputError: The folder cannot be written.
        """
        with self._held():
            seen = self.seen()
            new = change(seen)
            if new != seen:
                self._write(new)
            return new

    def newest_root(self) -> Root | None:
        """Return the newest root that was verified before; None where only the first one is known, or nothing."""
        if self._folder is None:
            return None if self._root is None else read_known_root(self._root)
        path = self._folder.path / "newest.json"
        try:
            return read_known_root(path.read_bytes())
        except FileNotFoundError:
            return None
        except CodecError as error:
            raise CodecError(f"{path}: {error}; remove it to begin anew from root.json beside it") from error

    def keep_root(self, root: Root, data: bytes | None) -> None:
        """Take note of the newest root, which was verified; `data` is its envelope, where it was read just now.

        Raises:
            RollbackError: A newer one was seen before.
        """

        def change(seen: Seen) -> Seen:
            new = with_root(seen, root)
            if data is not None and (root.version > seen.root or self.newest_root() is None):
                if self._folder is None:
                    self._root = data
                else:
                    write_whole(self._folder.path / "newest.json", data)
            return new

        self.change(change)

    def keep_source(self, source: str) -> None:
        """Remember that this federation was found here."""

        def change(seen: Seen) -> Seen:
            others = [other for other in seen.sources if other != source]
            return seen.model_copy(update={"sources": (*others, source)[-MAX_SOURCES:]})

        if source not in self.seen().sources:
            self.change(change)

    def forget_source(self, source: str) -> None:
        """Forget that this federation was found here, as another one is."""
        self.change(lambda seen: seen.model_copy(update={"sources": tuple(o for o in seen.sources if o != source)}))

    def _write(self, seen: Seen) -> None:
        if self._folder is None:
            self._seen = seen
        else:
            write_whole(self._folder.path / "seen.json", seal(seen))

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._lock:
            if self._folder is None:
                yield
                return
            with explained(self._folder.path):
                make_private_folder(self._folder.path)
                with open(self._folder.path / "seen.lock", "a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    yield


def memory_in(home: Path, fingerprint: str) -> Memory:
    """Return what a user has seen of a federation; one of this process alone where its folder is not there to write to.

    Services may run where they have no folder of their own.
    """
    folder = FederationFolder(home, fingerprint)
    return Memory(folder if os.access(folder.path, os.W_OK) else None)
