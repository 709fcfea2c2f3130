"""A node's folder: what it has fetched, trained and sent, so that `kill -9` costs no work.

    base/                        the latest release that was fetched
    private-1a2b3c….safetensors  private tensors of a model of the user's own, for the next round of the same federation
                                 and classes; never leaves
    masks/                       the elements that are trained, where they are fixed over rounds; `<name>.sent`: the
                                 gateway has it
    sender                       a secret by which gateways know the parts that this node sent
    adapter.safetensors          the adapter that its rounds begin with
    release-00003/               the work on base release 3
        checkpoint.safetensors   training under way
        delta.safetensors        what will leave the node
        statistics.safetensors   what will leave it beside that, where the federation's method looks at statistics
        head.safetensors         the private tensors that belong to the fine-tuned ones, and the labels; never leave
        trained.json             training is done: delta and head are there
        sent.json                what was committed to the gateway

Every file is there whole or not at all, and what a JSON file speaks of was on the disk before it. A disk may still
decay under them: what is read is checked against the digest that it carries or is named by, what is damaged is set
aside as `<name>.damaged` with a word, and made again. All of it is private: only its owner may enter the folder.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coldfuse.consumer import claim, hold, is_file_of
from coldfuse.contributor.masks import Masks
from coldfuse.contributor.work import Sent, Trained
from coldfuse.core.blob import Blob
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, V, sha256
from coldfuse.durable import DAMAGED, OnDamage, explained, make_folder, set_aside, write_whole
from coldfuse.errors import CodecError

_LOG = logging.getLogger(__name__)
_KEPT_RELEASES = 2
_TRAINED, _SENT, _HEAD = "trained.json", "sent.json", "head.safetensors"


class WorkFolder:
    """The work on one base release."""

    def __init__(self, path: Path, on_damage: OnDamage = _LOG.warning) -> None:
        self.path, self._on_damage = path, on_damage
        with explained(path):
            make_folder(path)

    @property
    def checkpoint(self) -> Path:
        """File of the training's checkpoint."""
        return self.path / "checkpoint.safetensors"

    @property
    def delta(self) -> Path:
        """File that will leave the node."""
        return self.path / "delta.safetensors"

    @property
    def statistics(self) -> Path:
        """File that will leave the node beside the delta, where the federation asks for statistics."""
        return self.path / "statistics.safetensors"

    @property
    def head(self) -> Path:
        """File of the private tensors, such as the head: what the base's files do not have."""
        return self.path / _HEAD

    def earlier_heads(self) -> list[Path]:
        """Return the files of private tensors of the rounds before, the latest first."""
        found = self.path.parent.glob(f"release-*/{self.head.name}")
        return sorted((path for path in found if path.parent.name < self.path.name), reverse=True)

    @property
    def has_lost_sent(self) -> bool:
        """True from the moment when what was sent was found damaged, until it is known again."""
        return self._path_of(_SENT, DAMAGED).exists()

    def trained(self, *, base_digest: str, work_digest: str) -> Trained | None:
        """Return the finished training, if it was on this base and of this data with these settings."""
        sent = self.sent()
        trained = self._read(Trained, _TRAINED) or (sent.trained if sent else None)
        if trained is None or (trained.base_digest, trained.work_digest) != (base_digest, work_digest):
            return None
        return trained if sent or self.delta.is_file() else None

    def kept(self, *, work_digest: str) -> Trained | None:
        """Return the finished training of this data with these settings, if nobody knows yet what became of it."""
        sent = self.sent()
        trained = self._read(Trained, _TRAINED) or (sent.trained if sent else None)
        if trained is None or trained.work_digest != work_digest or not (sent or self.delta.is_file()):
            return None
        if not sent and not trained.beats_base:  # nobody is to know of it
            return None
        return trained if sent is None or sent.is_done is False else None

    def sent(self) -> Sent | None:
        """Return what was committed, if anything."""
        return self._read(Sent, _SENT)

    def has_delta(self, delta: Blob) -> bool:
        """Tell whether the delta's file is still what was written; if not, it has to be trained again."""
        return self._has(delta, self.delta)

    def has_files(self, trained: Trained) -> bool:
        """Tell the same of all files that travel."""
        return all(self._has(blob, path) for blob, path in self.files(trained))

    def files(self, trained: Trained) -> list[tuple[Blob, Path]]:
        """Return the parts of all files that travel, and where each lies."""
        found = [(trained.delta, self.delta)]
        if trained.mask is not None:
            found.append((trained.mask, self.masks.path(trained.mask)))
        if trained.statistics is not None:
            found.append((trained.statistics.file, self.statistics))
        return found

    @property
    def masks(self) -> Masks:
        """The masks, which last over rounds."""
        return Masks(self.path.parent / "masks")

    def _has(self, blob: Blob, path: Path) -> bool:
        if is_file_of(blob, path):
            return True
        if path.exists():
            self._set_aside(path, "not the bytes that were written")
        self.forget_sent()
        self.forget_trained()
        return False

    def save_trained(self, trained: Trained) -> None:
        """Remember that training is done."""
        write_whole(self._path_of(_TRAINED), seal(trained))

    def save_sent(self, sent: Sent) -> None:
        """Remember what is about to be committed."""
        write_whole(self._path_of(_SENT), seal(sent))
        self._forget(_SENT, DAMAGED)

    def forget_trained(self) -> None:
        """Say that the delta is about to be written anew: killed meanwhile, the new one must not pass for the old."""
        self._forget(_TRAINED)

    def forget_sent(self) -> None:
        """Allow this work to be sent again, in another round."""
        self._forget(_SENT)
        self._forget(_SENT, DAMAGED)

    def _path_of(self, name: str, behind: str = "") -> Path:
        return self.path / f"{name}{behind}"

    def _forget(self, name: str, behind: str = "") -> None:
        path = self._path_of(name, behind)
        with explained(path, "removed"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _read(self, kind: type[V], name: str) -> V | None:
        path = self._path_of(name)
        try:
            with path.open("rb") as file:
                return unseal(kind, file.read(MAX_MANIFEST_BYTES + 1), what=name)
        except FileNotFoundError:
            return None
        except PermissionError:
            with explained(path, "read"):
                raise
        except (OSError, CodecError) as error:
            self._set_aside(path, str(error))
            return None

    def _set_aside(self, path: Path, why: str) -> None:
        set_aside(path, why, then="what it held is made again", tell=self._on_damage)


_MAX_SECRET_BYTES = 64


class NodeFolder:
    """A node's folder, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def base(self) -> Path:
        """Folder that the base is fetched to."""
        return self._path / "base"

    def private(self, whose: str) -> Path:
        """Return the file of the tensors that stay of a model of the user's own, of which `whose` says which."""
        return self._path / f"private-{sha256(whose.encode())[:12]}.safetensors"

    @property
    def adapter(self) -> Path:
        """File of the adapter that each round of a model of the user's own begins with."""
        return self._path / "adapter.safetensors"

    @property
    def scratch(self) -> Path:
        """Folder of what is gathered of a model on its way to a delta, gone when that is written."""
        return self._path / "scratch"

    def work_on(self, base_release: int, on_damage: OnDamage = _LOG.warning) -> WorkFolder:
        """Return the folder of the work on a base release, and clear those of long ago.

        Args:
            base_release: Number of the release.
            on_damage: Told of each file in it that is found damaged.
        """
        folders = sorted(self._path.glob("release-*"))
        heads = [
            folder for folder in folders if (folder / _HEAD).is_file() and folder.name < f"release-{base_release:05d}"
        ]
        old_folders = [folder for folder in folders if folder.name <= f"release-{base_release - _KEPT_RELEASES:05d}"]
        for old in [folder for folder in old_folders if folder not in heads[-1:]]:  # the next round may start from it
            with explained(old, "removed"):
                shutil.rmtree(old)
        return WorkFolder(self._path / f"release-{base_release:05d}", on_damage)

    def works(self, *, but: int) -> list[WorkFolder]:
        """Return the folders of the finished trainings, the newest first, but for those on one release."""
        folders = sorted(self._path.glob("release-*"), reverse=True)
        wanted = [folder for folder in folders if folder.name != f"release-{but:05d}"]
        return [WorkFolder(folder) for folder in wanted if (folder / "trained.json").is_file()]

    @contextmanager
    def held(self, *, alone: bool = True) -> Iterator[None]:
        """Keep other processes out, and other users; the lock goes with the process, however it ends.

        Args:
            alone: The process is the node's own, and writes for its own user alone meanwhile, whatever library writes.
                False: it is somebody's script, which may write elsewhere for others.
        """
        before = os.umask(0o077) if alone else None
        try:
            with explained(self._path):
                make_folder(self._path, private=self._path)
            with hold(self._path, hint="another node works in it; give each its own --work folder"):
                self._make_private()
                if self.base.is_dir():
                    claim(self.base)  # it is ours, also where the file that says so was lost
                yield
        finally:
            if before is not None:
                os.umask(before)

    def secret(self) -> str:
        """Return what shows a gateway that this node is the one that sent parts before; made when it is first asked."""
        path = self._path / "sender"
        with explained(path):
            if not path.exists():
                write_whole(path, secrets.token_hex(32).encode())
            return path.read_bytes()[:_MAX_SECRET_BYTES].hex()  # whatever a disk has made of it

    def _make_private(self) -> None:
        """Take from others what an older version, or whoever made the folder, gave them."""
        if not self._path.stat().st_mode & 0o077:
            return
        try:
            self._path.chmod(0o700)
            for folder in self._path.glob("release-*"):
                folder.chmod(0o700)
                for file in folder.iterdir():
                    file.chmod(0o600)
        except OSError as error:  # a file system without permissions, or a folder of somebody else's
            _LOG.warning("%s: other users can read what lies here, and that cannot be changed: %s", self._path, error)
        else:
            _LOG.warning("%s: other users could read what lies here; now only its owner can", self._path)
