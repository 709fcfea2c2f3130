"""The demonstration's keys: its operator's, and those of each who takes part, in folders of the demonstration's own.

Everybody has a folder as a user has one (`COLDFUSE_HOME`), and only what is theirs lies in it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coldfuse.api.joining import join
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.names import Identity
from coldfuse.registry.proposals import Document, arrange, publish
from coldfuse.registry.trust import signed_reader
from coldfuse.storage import ObjectStore
from coldfuse.transport.client import GatewayClient
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import find_identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import MemberRole, Members, Quota
from coldfuse.trust.membership import Invitation, enrolled, revoked
from coldfuse.trust.tokens import Token
from coldfuse.trust.view import Known, TrustView

_DAY_S = 86400.0
_OPERATOR = "operator"


@dataclass(frozen=True)
class DemoKeys:
    """Where the keys lie, and those that the federation is founded on."""

    folder: Path
    """Folder with the folders of all."""
    founders: FounderKeys
    """Keys of the operator and of the aggregator."""

    @classmethod
    def make(cls, folder: Path) -> DemoKeys:
        """Make the operator's and the aggregator's keys."""
        keys = {
            _OPERATOR: PrivateKey.generate(), "aggregator": PrivateKey.generate(), "model": PrivateKey.generate_p256()
        }  # fmt: skip
        founders = FounderKeys(operators=[keys[_OPERATOR]], aggregator=keys["aggregator"], model=keys["model"])
        own = FederationFolder(folder / _OPERATOR, founders.fingerprint)
        for role, key in keys.items():
            own.write_key(role, key)
        own.pin_root(founders.signed_root())
        return cls(folder, founders)

    @property
    def operator(self) -> Path:
        """The operator's folder."""
        return self.home(_OPERATOR)

    def home(self, name: str) -> Path:
        """Return the folder of somebody who takes part."""
        return self.folder / name

    def invite(self, store: ObjectStore, roles: Mapping[str, MemberRole], *, address: str) -> list[Token]:
        """Enroll members, as `coldfuse enroll` does, all at once."""
        now_s, tokens, known = time.time(), [], self._known(store)
        members = known.members
        for name, role in roles.items():
            invitation = Invitation(
                who=Identity.of(name), role=role, quota=Quota(), join_by_s=now_s + _DAY_S,
                valid_until_s=now_s + 365 * _DAY_S,
            )  # fmt: skip
            token = Token.make(
                federation=self.founders.fingerprint, who=invitation.who, role=role, address=address,
                join_by_s=invitation.join_by_s,
            )  # fmt: skip
            members = enrolled(members, invitation, invite=token.key.public, now_s=now_s)
            tokens.append(token)
        self._publish(store, known, members)
        return tokens

    def revoke(self, store: ObjectStore, name: str, *, reason: str) -> None:
        """Revoke a member from now on, as `coldfuse revoke` does: no round waits for it any more."""
        now_s, known = time.time(), self._known(store)
        members = revoked(known.members, Identity.of(name).id, since_s=now_s, reason=reason, now_s=now_s)
        self._publish(store, known, members)

    def _known(self, store: ObjectStore) -> Known:
        return TrustView(signed_reader(store), fingerprint=self.founders.fingerprint).refresh()

    def _publish(self, store: ObjectStore, known: Known, members: Members) -> None:
        """Sign a new version of the list of members."""
        after = members.model_copy(update={"version": known.members.version + 1})
        publish(store, arrange([Document.of("members", after)]).signed(self.founders.operators), known)

    def join(self, token: Token, address: str) -> FederationFolder:
        """Make a member's key and bind it to the name, as `coldfuse join` does."""
        with GatewayClient(address) as gateway:
            return join(token, gateway, self.home(token.name), address=address)

    def connect(self, name: str, address: str) -> TrustedGateway:
        """Connect to the gateway as a member who has joined, who believes nothing that is not signed."""
        folder = FederationFolder(self.home(name), self.founders.fingerprint)
        identity = find_identity(folder, name)
        return TrustedGateway(
            GatewayClient(address, identity=identity), anchor=self.founders.fingerprint, folder=folder,
            identity=identity,
        )  # fmt: skip
