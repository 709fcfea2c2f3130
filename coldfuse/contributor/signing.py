"""Contributing as a member: what is sent is signed by the newest key; in an open federation a name is claimed first."""

from __future__ import annotations

import time

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.names import shown
from coldfuse.core.serialization import encode
from coldfuse.errors import NotAllowedError
from coldfuse.gateway import ContributionVerdict, Gateway
from coldfuse.trust.envelope import detached
from coldfuse.trust.identity import Identity
from coldfuse.trust.members import MAX_ROTATIONS, KeyStatement, keys_folder, read_statements, state_key
from coldfuse.trust.reading import bounded
from coldfuse.trust.rights import Asker, require_right
from coldfuse.trust.view import SKEW_S, TrustView


def identity_of(gateway: Gateway) -> Identity | None:
    """Return as whom a gateway is asked; None where the federation has no root, or it is asked as nobody."""
    return gateway.identity if isinstance(gateway, TrustedGateway) else None


def require_sender(gateway: Gateway) -> None:
    """Refuse whoever may not contribute before anything is trained that nobody would take.

    Raises:
        NotAllowedError: As the gateway would raise it at the end; when a membership expires, its own clock decides.
    """
    identity = identity_of(gateway)
    if identity is None or not isinstance(gateway, TrustedGateway):
        return
    known = gateway.belief.known()
    asker = Asker(
        name=identity.name, member=known.members.members.get(identity.name), keyid=identity.signer.public.id
    )  # fmt: skip
    require_right("Commit", asker, is_open=known.root.is_open, now_s=0.0)


def require_witness(gateway: Gateway, identity: Identity) -> None:
    """Refuse whoever may not say what came of fusing a release again, before that is fused.

    Raises:
        NotAllowedError: As the gateway would raise it at the end.
    """
    view = TrustView(gateway.read_signed, fingerprint=identity.federation)
    asker = view.find(identity.name, identity.signer.public.id)
    require_right("PutCheck", asker, is_open=view.known().root.is_open, now_s=time.time() - SKEW_S)


def hand_in(gateway: Gateway, manifest: ContributionManifest) -> ContributionVerdict:
    """Commit a contribution, signed by the newest key of who asks the gateway; raises as `Gateway.commit`."""
    identity = identity_of(gateway)
    if identity is None:
        return gateway.commit(manifest)
    payload, signer = encode(manifest), identity.signer
    try:
        return gateway.commit(manifest, detached(payload, "contribution", signer))
    except NotAllowedError as refused:
        if not identity.follow(signer.public.id):  # else it has been rotated in this moment
            raise
        try:
            return gateway.commit(manifest, identity.sign(payload, "contribution"))
        except NotAllowedError:
            raise refused from None  # it has not: the key that waits for its place is refused for no better reason


def claim_name(gateway: Gateway, identity: Identity) -> None:
    """Bind an identity's key to its name in an open federation, unless it is bound.

    Raises:
        NotAllowedError: The name belongs to another key.
    """
    bound = _bound_key(gateway, identity)
    if bound is None:
        statement = KeyStatement(
            federation=identity.federation, member=identity.name, number=0, key=identity.signer.public,
            made_at_s=time.time(),
        )  # fmt: skip
        gateway.join(state_key(statement, before=None, own=identity.signer))
        bound = _bound_key(gateway, identity)  # somebody else may have been first
    mine = identity.signer.public.id
    if bound != mine and not (identity.follow(mine) and bound == identity.signer.public.id):
        name = shown(identity.name, identity.display_name)
        raise NotAllowedError(
            f"{name}: this name belongs to another key, and in an open federation that is whose it was first; choose "
            "another name, or bring the key of this one"
        )


def _bound_key(gateway: Gateway, identity: Identity) -> str | None:
    """Return the id of the newest key of a name; None where nobody has it."""
    folder, found, read = keys_folder(identity.name, None), list[bytes](), bounded(gateway.read_signed)
    while len(found) < MAX_ROTATIONS and (data := read(f"{folder}{len(found)}.json")) is not None:
        found.append(data)
    statements = read_statements(found, member=identity.name, invite=None, federation=identity.federation)
    return statements[-1].key.id if statements else None
