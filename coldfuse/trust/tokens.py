"""Invitations: what an operator sends to somebody who is to take part, for one use.

A token holds the private half of the invitation's key, so whoever has it can bind their own key to the name, once. It
is shown once and kept nowhere; the list of members holds the public half.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Annotated

from pydantic import Field

from coldfuse.core.names import DisplayName, Identity
from coldfuse.core.serialization import canonical_json, decode, sha256
from coldfuse.core.value import Digest, Name, Value
from coldfuse.errors import CodecError, UserInputError
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import MemberRole

PREFIX = "coldfuse-invite-"
"""What a token begins with, so that people and scanners of secrets know what it is."""

MAX_TOKEN_CHARS = 4096


class _Invitation(Value):
    federation: Digest
    name: Name
    display_name: DisplayName | None = None
    role: MemberRole
    address: str | None = None
    join_by_s: float
    seed: Annotated[Digest, Field(repr=False)]  # 32 secret bytes in hex


def _check_of(body: str) -> str:
    """Return what shows that a token was copied as it is; it keeps nobody from making one up, which helps nobody."""
    return sha256(body.encode())[:8]


class Token:
    """An invitation. Its `repr` and `str` hide the secret; `text` is what is handed over."""

    def __init__(self, invitation: _Invitation) -> None:
        self._invitation = invitation

    @classmethod
    def make(cls, *, federation: str, who: Identity, role: MemberRole, address: str | None, join_by_s: float) -> Token:
        """Make a new invitation, with a new key."""
        return cls(
            _Invitation(
                federation=federation, name=who.id, display_name=who.display_name, role=role, address=address,
                join_by_s=join_by_s, seed=secrets.token_hex(32),
            )
        )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token.

        Raises:
            UserInputError: It is none, or not a whole one.
        """
        text = "".join(text.split())  # mail programs break lines
        if not text.startswith(PREFIX) or len(text) > MAX_TOKEN_CHARS:
            raise UserInputError(f"this is no invitation: expected text that begins with {PREFIX}, from your operator")
        body, _, check = text.removeprefix(PREFIX).partition(".")
        try:
            if check != _check_of(body):
                raise CodecError("a letter of it is another")
            data = base64.urlsafe_b64decode(body)
            return cls(decode(_Invitation, data, what="the invitation"))
        except (binascii.Error, ValueError, CodecError) as error:  # what is wrong with it would show some of it
            raise UserInputError(
                "this invitation is damaged, or not a whole one; copy all of it, or ask for another"
            ) from error

    @property
    def federation(self) -> str:
        """Fingerprint of the federation's root."""
        return self._invitation.federation

    @property
    def name(self) -> str:
        """Name of who is invited."""
        return self._invitation.name

    @property
    def display_name(self) -> str | None:
        """Name for people; None where the id is that."""
        return self._invitation.display_name

    @property
    def role(self) -> MemberRole:
        """As what."""
        return self._invitation.role

    @property
    def address(self) -> str | None:
        """Where the gateway or the store is."""
        return self._invitation.address

    @property
    def join_by_s(self) -> float:
        """Seconds since 1970 until which it can be used."""
        return self._invitation.join_by_s

    @property
    def key(self) -> PrivateKey:
        """Key of the invitation."""
        return PrivateKey.from_seed(bytes.fromhex(self._invitation.seed))

    @property
    def text(self) -> str:
        """The token as it is handed over: a secret."""
        data = canonical_json(self._invitation.model_dump(mode="json"))
        body = base64.urlsafe_b64encode(data).decode()
        return f"{PREFIX}{body}.{_check_of(body)}"

    def __repr__(self) -> str:
        """Show no secret."""
        return f"Token({self.name}, {self.role})"
