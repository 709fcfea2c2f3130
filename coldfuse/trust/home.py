"""A user's own folder: the roots that are trusted here, and private keys; `seen` keeps there what was seen last.

One folder a federation, named by its fingerprint, for the user alone. Nothing of it is ever written to a store.

    root.json                root 1, by which the federation is known here
    memberships/alice.json   as whom this user takes part; several, where several nodes share the folder
    keys/alice.pem           a member's private key, or a role's
    keys/alice.pem.next      the one that follows it, from before the federation hears of it until it is in its place
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from coldfuse.core.names import DisplayName
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.value import Digest, Name, Value
from coldfuse.durable import explained, make_folder, sync_folder, write_whole
from coldfuse.errors import CodecError, UserInputError
from coldfuse.trust.keys import Ask, PrivateKey
from coldfuse.trust.root import fingerprint_of

_FOLDER_CHARS = 16
"""Length of a folder's name: 64 bits of the fingerprint."""


class Membership(Value):
    """As what this user takes part in a federation."""

    federation: Digest
    """Fingerprint of its root."""
    name: Name
    """Name of the member."""
    display_name: DisplayName | None = None
    """Name for people; None where `name` is that."""
    address: str | None = None
    """Where its gateway or store is; None where nobody said."""


class FederationFolder:
    """What this user holds of one federation."""

    def __init__(self, home: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.path = home / fingerprint[:_FOLDER_CHARS]

    @property
    def keys(self) -> Path:
        """Folder of the private keys."""
        return self.path / "keys"

    def key_path(self, name: str) -> Path:
        """Return where the private key of a role or member lies."""
        return self.keys / f"{name}.pem"

    def has_key(self, name: str) -> bool:
        """Tell whether there is a private key of a role or member."""
        return self.key_path(name).exists()

    def read_key(self, name: str) -> PrivateKey:
        """Read a private key; raises `UserInputError` as `read_private_key`."""
        return read_private_key(self.key_path(name))

    def write_key(self, name: str, key: PrivateKey) -> Path:
        """Keep a private key; a file that is there is never overwritten."""
        path = self.key_path(name)
        write_private_key(path, key)
        return path

    def stage_key(self, name: str) -> PrivateKey:
        """Return the key that is to follow the one that there is, and keep it beside that until `promote_key`.

        It is kept before the federation hears of it: whatever is killed in between, it is not lost, and the next call
        returns the same one.
        """
        path = self._staged(name)
        if not path.exists():
            write_private_key(path, PrivateKey.generate())
        return read_private_key(path)

    def has_staged(self, name: str) -> bool:
        """Tell whether a key waits for its place."""
        return self._staged(name).exists()

    def promote_key(self, name: str) -> None:
        """Put the staged key into the place of the one before it."""
        with explained(self.key_path(name)):
            os.replace(self._staged(name), self.key_path(name))
            sync_folder(self.keys)

    def _staged(self, name: str) -> Path:
        return staged_path(self.key_path(name))

    def keep_membership(self, membership: Membership) -> None:
        """Keep a note of as whom this user takes part."""
        self._keep(f"memberships/{membership.name}.json", membership)

    def memberships(self) -> list[Membership]:
        """Return as whom this user takes part, by name.

        Raises:
            CodecError: A note is damaged.
        """
        folder = self.path / "memberships"
        with explained(folder, "read"):
            return [_read_membership(path) for path in sorted(folder.glob("*.json"))]

    def _keep(self, name: str, value: Value) -> None:
        make_private_folder(self.path)
        path = self.path / name
        make_private_folder(path.parent)
        write_whole(path, seal(value))

    def pin_root(self, data: bytes) -> None:
        """Keep root 1, by which this federation is known here."""
        make_private_folder(self.path)
        write_whole(self.path / "root.json", data)

    def pinned_root(self) -> bytes | None:
        """Return root 1 if it is known here."""
        try:
            return (self.path / "root.json").read_bytes()
        except FileNotFoundError:
            return None


def _read_membership(path: Path) -> Membership:
    try:
        return unseal(Membership, path.read_bytes(), what=str(path))
    except CodecError as error:
        raise CodecError(f"{error}; remove it, and join again with the same invitation, which keeps the key") from error


def known_federations(home: Path) -> list[FederationFolder]:
    """Return the folders of the federations that this user knows.

    Raises:
        UserInputError: A root is none any more.
    """
    found = []
    for path in sorted(home.glob("*/root.json")):
        try:
            fingerprint = fingerprint_of(path.read_bytes())
        except (CodecError, OSError) as error:
            raise UserInputError(f"{path}: is no root any more ({error}); join anew, or remove it") from error
        found.append(FederationFolder(home, fingerprint))
    return [folder for folder in found if folder.path.exists()]  # under another name it is nobody's


def check_fingerprint(text: str) -> str:
    """Return a fingerprint as it is compared.

    >>> check_fingerprint("AB" * 32) == "ab" * 32
    True

    Raises:
        UserInputError: It is none.
    """
    found = text.strip().lower() if isinstance(text, str) else ""  # from Python anything comes
    if re.fullmatch(r"[0-9a-f]{64}", found) is None:
        raise UserInputError(
            f"{repr(text)[:80]} is no fingerprint of a federation: expected 64 characters, 0-9 and a-f, as coldfuse "
            "init and coldfuse keys show it"
        )
    return found


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it, for this user alone. Raises `UserInputError` if that cannot be."""
    with explained(path):
        first = path
        while not first.parent.exists():
            first = first.parent
        make_folder(path, private=first)  # who may rename a folder on the way can put another in its place
        os.chmod(path, 0o700)


def staged_path(path: Path) -> Path:
    """Return where the key lies that is to follow the one in a file."""
    return path.with_name(f"{path.name}.next")


def write_private_key(path: Path, key: PrivateKey) -> None:
    """Write a private key into a new file that its owner alone can read.

    Raises:
        UserInputError: There is a file already, or it cannot be written.
    """
    make_private_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # a key is there whole or not at all
    try:
        unfinished.unlink(missing_ok=True)
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.pem())
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)  # fails where there is a file, as a rename would not
        sync_folder(path.parent)
    except FileExistsError as error:
        raise UserInputError(
            f"{path}: is there already, and a private key is never overwritten; move it away"
        ) from error
    except OSError as error:
        raise UserInputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_private_key(path: Path, *, ask: Ask | None = None, is_shared: bool = False) -> PrivateKey:
    """Read a private key that its owner alone can read.

    Args:
        path: The file.
        ask: Asks for the passphrase of a locked one; None: such a one is refused.
        is_shared: Whether it may be readable to others by its mode.

    Raises:
        UserInputError: There is none, or others can read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(1 << 16)
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read ({error.strerror}); expected a private key") from error
    if stat.S_IMODE(mode) & 0o077 and not is_shared:
        raise UserInputError(f"{path}: others can read this private key ({stat.filemode(mode)}); chmod 600 {path}")
    return PrivateKey.from_pem(pem, what=str(path), ask=ask)
