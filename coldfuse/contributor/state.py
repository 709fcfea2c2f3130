"""A node's folder: what it has fetched, trained and sent, so that `kill -9` costs no work.

    base/                        the latest release that was fetched
    release-00003/               the work on base release 3
        checkpoint.safetensors   training under way
        delta.safetensors        what will leave the node
        head.safetensors         the private head that belongs to the fine-tuned body, and its labels; never leaves
        trained.json             training is done: delta and head are there
        sent.json                what was committed to the gateway

Every file is there whole or not at all, and what a JSON file speaks of was on the disk before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coldfuse.consumer import hold
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Score
from coldfuse.core.serialization import V, decode, encode
from coldfuse.core.value import Digest, Value
from coldfuse.durable import explained, write_whole
from coldfuse.errors import CodecError, UserInputError

_KEPT_RELEASES = 2


class Trained(Value):
    """A finished training: everything that a manifest says of it."""

    base_release: int
    """Number of the release that was fine-tuned."""
    base_digest: Digest
    """Model digest of that release."""
    work_digest: Digest
    """Digest of the data and settings; with others the training is not the same."""
    num_examples: int
    """Distinct examples trained on."""
    num_steps: int
    """Optimiser steps done."""
    score: Score
    """Validation accuracy before and after."""
    encoding: str
    """Dtype of the delta."""
    delta: Blob
    """Parts of the delta's file."""


class Sent(Value):
    """A contribution that was committed. Written before the commit: if its answer is lost, the gateway knows."""

    federation: Digest
    """Federation that it went to."""
    round: int
    """Number of the round."""
    contribution: Digest
    """SHA-256 of its manifest."""
    after_release: int | None = None
    """Number of the release that the round was on; None, of an older version: the base."""
    is_done: bool | None = None
    """True once it is known what became of it; None of an older version, which did not say."""


class WorkFolder:
    """The work on one base release."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """File of the training's checkpoint."""
        return self.path / "checkpoint.safetensors"

    @property
    def delta(self) -> Path:
        """File that will leave the node."""
        return self.path / "delta.safetensors"

    @property
    def head(self) -> Path:
        """File of the private head."""
        return self.path / "head.safetensors"

    def trained(self, *, base_digest: str, work_digest: str) -> Trained | None:
        """Return the finished training, if it was on this base and of this data with these settings."""
        trained = self._read(Trained, "trained.json")
        if trained is None or (trained.base_digest, trained.work_digest) != (base_digest, work_digest):
            return None
        return trained if self.delta.is_file() else None

    def kept(self, *, work_digest: str) -> Trained | None:
        """Return the finished training of this data with these settings, if nobody knows yet what became of it."""
        trained, sent = self._read(Trained, "trained.json"), self.sent()
        if trained is None or trained.work_digest != work_digest or not self.delta.is_file():
            return None
        return trained if sent is None or sent.is_done is False else None

    def sent(self) -> Sent | None:
        """Return what was committed, if anything."""
        return self._read(Sent, "sent.json")

    def save_trained(self, trained: Trained) -> None:
        """Remember that training is done."""
        write_whole(self.path / "trained.json", encode(trained))

    def save_sent(self, sent: Sent) -> None:
        """Remember what is about to be committed."""
        write_whole(self.path / "sent.json", encode(sent))

    def forget_trained(self) -> None:
        """Say that the delta is about to be written anew: killed meanwhile, the new one must not pass for the old."""
        self._forget("trained.json")

    def forget_sent(self) -> None:
        """Allow this work to be sent again, in another round."""
        self._forget("sent.json")

    def _forget(self, name: str) -> None:
        with explained(self.path / name, "removed"):
            (self.path / name).unlink(missing_ok=True)

    def _read(self, kind: type[V], name: str) -> V | None:
        path = self.path / name
        if not path.exists():
            return None
        try:
            with explained(path, "read"):
                return decode(kind, path.read_bytes(), what=str(path))
        except CodecError as error:  # none of ours: they are there whole or not at all
            raise UserInputError(f"{error}; remove the file, and the node does this work again") from error


class NodeFolder:
    """A node's folder, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def base(self) -> Path:
        """Folder that the base is fetched to."""
        return self._path / "base"

    def work_on(self, base_release: int) -> WorkFolder:
        """Return the folder of the work on a base release, and clear those of long ago."""
        folders = sorted(self._path.glob("release-*"))
        for old in [folder for folder in folders if folder.name <= f"release-{base_release - _KEPT_RELEASES:05d}"]:
            with explained(old, "removed"):
                shutil.rmtree(old)
        return WorkFolder(self._path / f"release-{base_release:05d}")

    def works(self, *, but: int) -> list[WorkFolder]:
        """Return the folders of the finished trainings, the newest first, but for those on one release."""
        folders = sorted(self._path.glob("release-*"), reverse=True)
        wanted = [folder for folder in folders if folder.name != f"release-{but:05d}"]
        return [WorkFolder(folder) for folder in wanted if (folder / "trained.json").is_file()]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out; the lock goes with the process, however it ends."""
        with hold(self._path, hint="another node works in it; give each its own --work folder"):
            yield
