"""As whom somebody signs."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from coldfuse.core.names import Identity as Names
from coldfuse.core.signature import Signature
from coldfuse.durable import stamp
from coldfuse.errors import UserInputError
from coldfuse.trust.envelope import Kind, detached
from coldfuse.trust.home import FederationFolder, Membership, read_private_key, staged_path
from coldfuse.trust.keys import PrivateKey, Signer
from coldfuse.trust.membership import require_no_role


class KeyFile:
    """A private key in a file, which another process may replace: the newest one is read. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Read the key; raises as `read_private_key`."""
        self._path = path
        self._lock = threading.Lock()
        self._seen = stamp(path)
        self._key = read_private_key(path)

    def newest(self) -> PrivateKey:
        """Return the key, read again if the file has changed. While it cannot be read, the last one holds."""
        with self._lock:
            seen = stamp(self._path)
            if seen is not None and seen != self._seen:
                with suppress(UserInputError):  # somebody may be about to write it
                    self._key, self._seen = read_private_key(self._path), seen
            return self._key

    def follow(self, refused: str) -> bool:
        """Look for a key that has followed one which was refused; True where there is another one by now.

        Args:
            refused: Id of the key that was refused.
        """
        with self._lock:
            for path in (self._path, staged_path(self._path)):  # who rotates may be about to put it into its place
                try:
                    key = read_private_key(path)
                except UserInputError:
                    continue
                if key.public.id != refused:
                    self._key, self._seen = key, stamp(self._path)
                    return True
        return False


class Identity:
    """A member's name and key, in one federation."""

    def __init__(self, name: str, federation: str, key: Signer | KeyFile, *, display_name: str | None = None) -> None:
        """Take who it is.

        Args:
            name: Name of the member: its id.
            federation: Fingerprint of the federation's root.
            key: The member's key, or the file that it lies in.
            display_name: Name for people; None where the id is that.
        """
        self.name, self.federation, self.display_name = name, federation, display_name
        self._key = key

    @property
    def signer(self) -> Signer:
        """The member's newest key: ask once for whatever is signed together."""
        return self._key.newest() if isinstance(self._key, KeyFile) else self._key

    def sign(self, payload: bytes, kind: Kind) -> Signature:
        """Sign a payload, for where it lies beside its signature."""
        return detached(payload, kind, self.signer)

    def follow(self, refused: str) -> bool:
        """Look for a key that has followed the one that was refused, by its id; True: sign again with `signer`."""
        return self._key.follow(refused) if isinstance(self._key, KeyFile) else False

    def __repr__(self) -> str:
        """Show who it is."""
        return f"Identity({self.name}, {self.federation[:12]})"


def find_identity(folder: FederationFolder, name: str | None, *, is_open: bool = False) -> Identity:
    """Return as whom this user takes part in a federation.

    Args:
        folder: What this user holds of it.
        name: The name, of any script; None: the one that there is.
        is_open: Whether the federation is open: then a key is made for a name that has none, and is bound to it when
            it is first used.

    Raises:
        UserInputError: There is no key of that name, or there are several and none was named.
    """
    who = _only_membership(folder) if name is None else Names.of(name)
    require_no_role(who.id)
    path = folder.key_path(who.id)
    if not path.exists():
        if not is_open:
            raise UserInputError(_explain_missing(folder, who.id))
        folder.write_key(who.id, PrivateKey.generate())
        folder.keep_membership(Membership(
            federation=folder.fingerprint, name=who.id, display_name=who.display_name
        ))  # fmt: skip
    return Identity(who.id, folder.fingerprint, KeyFile(path), display_name=who.display_name)


def _only_membership(folder: FederationFolder) -> Names:
    found = folder.memberships()
    if len(found) == 1:
        return Names(id=found[0].name, display_name=found[0].display_name)
    if not found:
        raise UserInputError(_explain_missing(folder, None))
    raise UserInputError(f"you are several in this federation: {_list(found)}; say which: --name NAME")


def _explain_missing(folder: FederationFolder, name: str | None) -> str:
    found = folder.memberships()
    if name is not None and any(each.name == name for each in found):
        return (
            f"{name}: you have joined the federation {folder.fingerprint[:12]}, and the key is gone: expected it in "
            f"{folder.key_path(name)}; bring it back from a copy, or ask its operator for another invitation "
            "(coldfuse enroll --new-key)"
        )
    here = f"; here you are {_list(found)}" if found else ""
    who = "you are no member" if name is None else f"{name} is no member"
    return (
        f"{who} of the federation {folder.fingerprint[:12]} as far as {folder.path} knows{here}; ask its operator for "
        "an invitation (coldfuse enroll), then: coldfuse join TOKEN_FILE"
    )


def _list(memberships: list[Membership]) -> str:
    return ", ".join(each.display_name or each.name for each in memberships)
