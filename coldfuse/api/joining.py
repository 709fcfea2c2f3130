"""Taking part: a token becomes a key of this user's own, and a key is followed by the next.

A key is kept before anybody hears of it, and so is what binds it to the name. Whatever is killed in between, the same
call goes on: the same statement again is success, on both sides.
"""

from __future__ import annotations

import time
from pathlib import Path

from coldfuse.core.serialization import decode
from coldfuse.durable import write_whole
from coldfuse.errors import CodecError, FederationError, NotAllowedError, SignatureError, UserInputError
from coldfuse.gateway import Gateway
from coldfuse.trust.envelope import Kind, read_envelope, verified
from coldfuse.trust.home import FederationFolder, Membership, make_private_folder
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.members import KeyStatement, state_key
from coldfuse.trust.root import first_root
from coldfuse.trust.tokens import Token
from coldfuse.trust.view import TrustView, root_key

_KIND: Kind = "member-key"


def join(token: Token, gateway: Gateway, home: Path, *, address: str | None) -> FederationFolder:
    """Bind a key of this user's own to the name of an invitation; done again, it goes on, or has nothing to do.

    Args:
        token: The invitation.
        gateway: Where the federation is.
        home: The user's folder.
        address: Where that is, for the next time.

    Returns:
        The folder with the key, in which the root is pinned.

    Raises:
        SignatureError: What is there is another federation.
        NotAllowedError: The invitation has expired, was used by somebody else, or was taken back.
    """
    data = gateway.read_signed(root_key(1))
    if data is None:
        raise FederationError(f"this federation has no root; the invitation is to {token.federation[:12]}, elsewhere")
    first_root(data, token.federation)
    folder = FederationFolder(home, token.federation)
    statement = _kept(folder, token.name, "joining", token.key.public)
    if statement is None:
        if time.time() > token.join_by_s:
            raise NotAllowedError(f"{token.name}: the invitation has expired; ask an operator for another")
        statement = _state(folder, token)
    gateway.join(statement)
    folder.pin_root(data)
    _settle(folder, token.name, statement)
    folder.keep_membership(Membership(
        federation=token.federation, name=token.name, display_name=token.display_name, address=address
    ))  # fmt: skip
    return folder


def rotate(identity: Identity, gateway: Gateway, folder: FederationFolder) -> str:
    """Replace a member's key by a new one that the old one signs; done again after a kill, it goes on.

    Args:
        identity: The member, with the key that it has.
        gateway: Where the federation is, asked as this member.
        folder: What this user holds of the federation.

    Returns:
        The new key's id.

    Raises:
        NotAllowedError: The key here is not the member's newest one.
    """
    name, mine = identity.name, identity.signer
    statement = _kept(folder, name, "rotating", mine.public)
    if statement is None:
        statement = _follow(identity, gateway, folder)
    gateway.join(statement)
    _settle(folder, name, statement)
    _path(folder, name, "rotating").unlink(missing_ok=True)
    return folder.read_key(name).public.id


def _state(folder: FederationFolder, token: Token) -> bytes:
    """Make a key, and keep it and what binds it."""
    key = folder.stage_key(token.name)
    statement = KeyStatement(
        federation=token.federation, member=token.name, number=0, key=key.public, made_at_s=time.time()
    )
    return _keep(folder, token.name, "joining", state_key(statement, before=token.key, own=key))


def _follow(identity: Identity, gateway: Gateway, folder: FederationFolder) -> bytes:
    """Make the next key, and keep it and what binds it."""
    name, mine = identity.name, identity.signer
    view = TrustView(gateway.read_signed, fingerprint=folder.fingerprint)
    member = view.refresh().members.members.get(name)
    known = view.statements(name, member)
    if not known or known[-1].key.id != mine.public.id:
        raise NotAllowedError(
            f"{name}: the key here ({mine.public.id[:12]}) is not this member's newest one; rotate where that is, or "
            "ask an operator for a new invitation"
        )
    key = folder.stage_key(name)
    statement = KeyStatement(
        federation=folder.fingerprint, member=name, number=len(known), key=key.public, made_at_s=time.time()
    )
    return _keep(folder, name, "rotating", state_key(statement, before=mine, own=key))


def _settle(folder: FederationFolder, name: str, statement: bytes) -> None:
    """Put the key of a statement into its place, if it waits for that."""
    if folder.has_staged(name) and folder.stage_key(name).public == _read(statement).key:
        folder.promote_key(name)


def _kept(folder: FederationFolder, name: str, what: str, before: PublicKey) -> bytes | None:
    """Return the statement of a call that was killed, if this key has signed it; None where there is none."""
    try:
        data = _path(folder, name, what).read_bytes()
        verified(data, _KIND, [before], what="the statement that was kept")
    except (FileNotFoundError, CodecError, SignatureError):
        return None
    return data


def _keep(folder: FederationFolder, name: str, what: str, statement: bytes) -> bytes:
    path = _path(folder, name, what)
    make_private_folder(path.parent)
    write_whole(path, statement)
    return statement


def _read(statement: bytes) -> KeyStatement:
    what = "the statement about a key"
    return decode(KeyStatement, read_envelope(statement, what=what).content(_KIND, what=what), what=what)


def _path(folder: FederationFolder, name: str, what: str) -> Path:
    return folder.path / what / f"{name}.json"


def require_known(folder: FederationFolder, source: str) -> None:
    """Raise `UserInputError` unless a federation is known on this machine."""
    if folder.pinned_root() is None:
        raise UserInputError(
            f"{source}: is a federation that you are no member of here ({folder.fingerprint[:12]}); join it first: "
            "coldfuse join TOKEN_FILE"
        )
