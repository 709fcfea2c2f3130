"""The keys that a federation is founded on: made once, before anything is written to the store.

They lie in their folder, whole, before the store hears of them, with a note of the store; whatever is killed in
between, the next `init` of the same store finds them by that note, and goes on.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path

import typer

from coldfuse.cli.asking import ask_on_terminal
from coldfuse.cli.holding import keyring_of
from coldfuse.config import credentials_folder, home_folder
from coldfuse.consumer.anchors import find_anchor
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.value import Value
from coldfuse.durable import explained, sync_folder, write_whole
from coldfuse.errors import UserInputError
from coldfuse.registry.trust import signed_reader
from coldfuse.storage import ObjectStore
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.home import FederationFolder, make_private_folder, write_private_key
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.role_keys import RoleKeyring
from coldfuse.trust.root import RoleName
from coldfuse.trust.signers import keep_reference, open_key, refer_to

_NOTE = "founding.json"
_FOUNDED: tuple[RoleName, ...] = ("operator", "aggregator", "model")

OPEN = (
    "this federation is open, as for a laboratory: any key may contribute, a name belongs to the first key that used "
    "it, and everybody may read"
)
"""What is said of an open federation, whenever one is made or served."""


class Founding(Value):
    """Note of a federation that is being created."""

    store: str
    """Which store it is for."""
    created_at_s: float
    """Seconds since 1970 at which its root was made."""
    is_open: bool
    """Whether the federation is open."""


def founders(store: ObjectStore, *, is_open: bool, key: str | None) -> tuple[FederationFolder, FounderKeys]:
    """Return the keys of a new federation, and where they lie: new ones, or those of a creation that was killed.

    Args:
        store: The store that it is for.
        is_open: Whether any key may contribute.
        key: The operator's private key, a file or a URI; None: a new one.

    Raises:
        UserInputError: The key cannot be used, or what was begun is of another kind.
    """
    home = home_folder()
    begun = begun_in(store)
    if begun is not None:
        folder, note = begun
        if note.is_open != is_open:
            raise UserInputError(
                f"{store.url}: was begun as {'an open' if note.is_open else 'a closed'} federation; finish it "
                f"{'with' if note.is_open else 'without'} --open, or choose another folder or prefix"
            )
        return folder, _read(folder, note)
    with explained(home):
        make_private_folder(home)
        unfinished = home / f".{secrets.token_hex(8)}"
        try:
            folder, keys = _make(home, unfinished, Founding(
                store=store.url, created_at_s=time.time(), is_open=is_open
            ), key)  # fmt: skip
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder, keys


def begun_in(store: ObjectStore) -> tuple[FederationFolder, Founding] | None:
    """Return the folder of a federation whose creation in a store was not seen to end; None where there is none."""
    for path in sorted(home_folder().glob(f"*/{_NOTE}")):
        note = unseal(Founding, path.read_bytes(), what=str(path))
        if note.store == store.url:
            bare = FederationFolder(path.parent.parent, path.parent.name)
            return FederationFolder(path.parent.parent, _read(bare, note).fingerprint), note
    return None


def finish(folder: FederationFolder, store: ObjectStore, url: str) -> None:
    """Take note that the federation is there, and where."""
    find_anchor(signed_reader(store), url, home=folder.path.parent, root=folder.fingerprint)
    (folder.path / _NOTE).unlink(missing_ok=True)


def say_keys(url: str, folder: FederationFolder, *, is_open: bool) -> None:
    """Say where the keys of a new federation are, and what comes next."""
    typer.echo(f"keys: {folder.keys} (whoever has them decides here; keep a copy in another place)")
    if is_open:
        typer.echo(OPEN)
    invite = "" if is_open else f", and for each who takes part: coldfuse enroll {url} NAME"
    typer.echo(f"next: coldfuse serve {url}{invite}")
    typer.echo(f"fingerprint {folder.fingerprint}")


def _make(home: Path, unfinished: Path, note: Founding, key: str | None) -> tuple[FederationFolder, FounderKeys]:
    place = unfinished / "keys"
    keyring = RoleKeyring(place, credentials_folder(), ask_on_terminal())
    if key is not None:
        keep_reference(place / "operator.json", refer_to(key, open_key(key, ask=keyring.ask)))
    for role in _FOUNDED:
        if not keyring.has(role):  # else it is systemd's, or was given
            new = PrivateKey.generate_p256() if role == "model" else PrivateKey.generate()
            write_private_key(place / f"{role}.pem", new)
    write_whole(unfinished / _NOTE, seal(note))
    keys = _founder_keys(keyring, note)
    write_whole(unfinished / "root.json", keys.signed_root())
    folder = FederationFolder(home, keys.fingerprint)
    os.chmod(unfinished, 0o700)
    os.rename(unfinished, folder.path)
    sync_folder(home)
    return folder, keys


def _read(folder: FederationFolder, note: Founding) -> FounderKeys:
    return _founder_keys(keyring_of(folder), note)


def _founder_keys(keyring: RoleKeyring, note: Founding) -> FounderKeys:
    return FounderKeys(
        operators=[keyring.find("operator")], aggregator=keyring.find("aggregator"), model=keyring.find("model"),
        is_open=note.is_open, created_at_s=note.created_at_s,
    )  # fmt: skip
