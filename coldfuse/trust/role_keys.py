"""The private keys of a federation's roles, in their user's folder: which there are, and how one follows another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from coldfuse.durable import sync_folder
from coldfuse.errors import UserInputError
from coldfuse.trust.home import read_private_key, staged_path, write_private_key
from coldfuse.trust.keys import Ask, PrivateKey, PublicKey, Signer
from coldfuse.trust.root import ROLES, RoleName, Root
from coldfuse.trust.signers import (
    CREDENTIAL,
    find_signer,
    has_signer,
    keep_reference,
    open_key,
    open_reference,
    read_reference,
    refer_to,
)

_SIGN_FOR_EACH_OTHER: tuple[RoleName, ...] = ("root", "operator")
"""Roles that one key often has both of."""


@dataclass(frozen=True)
class RoleKeyring:
    """Keys of roles that this user holds."""

    keys: Path
    """Folder with the files."""
    credentials: Path | None = None
    """Folder of systemd's credentials."""
    ask: Ask | None = None
    """Asks for a passphrase or PIN; None where nobody is at a terminal."""

    def has(self, role: str) -> bool:
        """Tell whether there is a key of a role."""
        return has_signer(role, self.keys, credentials=self.credentials)

    def find(self, role: str, *, given: str | None = None) -> Signer:
        """Return what signs for a role; raises as `find_signer`."""
        return find_signer(role, self.keys, given=given, credentials=self.credentials, ask=self.ask)

    def staged(self, role: str) -> Signer | None:
        """Return the key that is to follow a role's one; None where there is none."""
        if (path := staged_path(self.keys / f"{role}.json")).exists():
            return open_reference(read_reference(path), ask=self.ask)
        if (path := staged_path(self.keys / f"{role}.pem")).exists():
            return open_key(str(path), ask=self.ask)
        return None

    def stage(self, role: RoleName, *, given: str | None) -> Signer:
        """Return the key that is to follow a role's one: what was given, or a new one, kept until `settle`."""
        if given is not None:
            signer = open_key(given, ask=self.ask)
            keep_reference(staged_path(self.keys / f"{role}.json"), refer_to(given, signer))
            return signer
        path = staged_path(self.keys / f"{role}.pem")
        if not path.exists():
            write_private_key(path, PrivateKey.generate_p256() if role == "model" else PrivateKey.generate())
        return read_private_key(path)

    def settle(self, root: Root) -> Iterator[str]:
        """Put keys into their place that the newest root names instead of those before them; return their roles."""
        for role in ROLES:
            new = self._staged_id(role)
            if new is not None and new in root.keys:
                try:
                    _promote(self.keys, role)
                except FileNotFoundError:  # another process has done it in this moment
                    continue
                yield role

    def signers(self, roots: list[Root], role: RoleName, *, given: str | None = None) -> list[Signer]:
        """Return all the keys here that sign for a role by one of these roots.

        Raises:
            UserInputError: There is none.
        """
        wanted = {keyid for root in roots for keyid in root.roles[role].keys}
        found = (
            [self.find(role, given=given)]
            if given is not None
            else list(self._all(dict.fromkeys((role, *_SIGN_FOR_EACH_OTHER))))
        )
        fitting = {signer.public.id: signer for signer in found if signer.public.id in wanted}
        if not fitting:
            raise UserInputError(_explain(role, wanted, [signer.public for signer in found], self.keys))
        return list(fitting.values())

    def held(self) -> dict[str, PublicKey]:
        """Return the public halves of the keys that are here, by role, without asking for anything."""
        found: dict[str, PublicKey] = {}
        for role in ROLES:
            path = self.keys / f"{role}.json"
            if path.exists() and not (self.keys / f"{role}.pem").exists():
                found[role] = read_reference(path).key
            elif self.has(role):
                found[role] = self.find(role).public
        return found

    def _all(self, roles: Iterable[str]) -> Iterator[Signer]:
        for role in roles:
            if self.has(role):
                yield self.find(role)
            if (staged := self.staged(role)) is not None:
                yield staged

    def _staged_id(self, role: str) -> str | None:
        if (path := staged_path(self.keys / f"{role}.json")).exists():
            return read_reference(path).key.id
        staged = self.staged(role)
        return None if staged is None else staged.public.id


def _promote(keys: Path, role: str) -> None:
    """Put a staged key into its place; the one before it is kept as `<role>.pem.old`."""
    pem, note = keys / f"{role}.pem", keys / f"{role}.json"
    if pem.exists():
        old = pem.with_name(f"{pem.name}.old")
        old.unlink(missing_ok=True)
        os.link(pem, old)
    if staged_path(note).exists():
        os.replace(staged_path(note), note)
        pem.unlink(missing_ok=True)
    else:
        os.replace(staged_path(pem), pem)
        note.unlink(missing_ok=True)
    sync_folder(keys)


def _explain(role: str, wanted: set[str], found: list[PublicKey], keys: Path) -> str:
    expected = ", ".join(sorted(keyid[:12] for keyid in wanted))
    here = ", ".join(key.id[:12] for key in found)
    if not here:
        return (
            f"there is no private key of {role!r} here: expected one of {expected} in {keys}, or systemd's credential "
            f"{CREDENTIAL.format(role)}; give it with --key FILE|URI, or do this where the key is"
        )
    return f"the keys here ({here}) do not sign for {role}: expected one of {expected}; give that one with --key"
