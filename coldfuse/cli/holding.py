"""What an operator holds of a federation: the store, the keys here, and how a change is signed and published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from coldfuse.cli.asking import ask_on_terminal
from coldfuse.cli.options.trust import OperatorKey
from coldfuse.config import credentials_folder, home_folder
from coldfuse.consumer.anchors import find_anchor
from coldfuse.core.federation import FederationSettings
from coldfuse.errors import FederationError, RollbackError
from coldfuse.registry.federation import open_federation
from coldfuse.registry.handover import channels_to_sign, sign_channels, signer_of_channels
from coldfuse.registry.proposals import Proposal, keep_proposal, publish
from coldfuse.registry.settings import read_settings
from coldfuse.registry.trust import signed_reader, view_of
from coldfuse.storage import ObjectStore, open_store
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.keys import Signer
from coldfuse.trust.role_keys import RoleKeyring
from coldfuse.trust.root import RoleName, Root
from coldfuse.trust.seen import Memory, with_members, with_settings
from coldfuse.trust.view import Known, TrustView


@dataclass(frozen=True)
class Holding:
    """A federation with a root, as its operator has it."""

    url: str
    """What the user called the store."""
    store: ObjectStore
    settings: FederationSettings
    view: TrustView
    known: Known
    """Root and members as they are."""
    folder: FederationFolder
    """What this user holds."""
    keyring: RoleKeyring

    def signers(self, role: RoleName, signing: OperatorKey, *, after: Root | None = None) -> list[Signer]:
        """Return the keys here that sign for a role, by the root as it is or the one after it."""
        return self.keyring.signers([root for root in (self.known.root, after) if root], role, given=signing.key)

    def carry_out(self, proposal: Proposal, signers: Sequence[Signer]) -> bool:
        """Sign a change, and publish it if that is enough; else propose it to the other operators, and say so."""
        proposal = proposal.signed(signers)
        lacking = proposal.lacking(self.known)
        if lacking:
            keep_proposal(self.store, proposal)
            typer.echo(
                f"proposed as {proposal.id}: lacks {'; '.join(lacking)}; they sign it with: coldfuse keys sign "
                f"{self.url} {proposal.id}",
                err=True,
            )
            return False
        with self._channels_kept(proposal, signers):
            publish(self.store, proposal, self.known)
        self.settle()
        for document in proposal.documents:
            if document.kind == "federation":
                _note(document.settings(), self.folder)
        return True

    @contextmanager
    def _channels_kept(self, proposal: Proposal, signers: Sequence[Signer]) -> Iterator[None]:
        """Sign the channels anew where a new root takes away the keys that have signed them."""
        after = proposal.new_root
        if after is None:
            yield
            return
        federation = open_federation(self.store, fingerprint=self.known.fingerprint, home=home_folder())
        channels = channels_to_sign(federation, self.known.root, after)
        signer = signer_of_channels(after, [*self._aggregators(), *signers]) if channels else None
        yield
        if channels and signer is None:
            typer.echo("coldfuse: no key here signs channels: readers wait until the aggregator runs anew", err=True)
        for problem in sign_channels(federation, channels, signer) if signer else ():
            typer.echo(f"coldfuse: {problem}; readers wait until the aggregator runs anew", err=True)

    def _aggregators(self) -> Iterator[Signer]:
        """Return the aggregator's keys that are here, the next one first."""
        if (staged := self.keyring.staged("aggregator")) is not None:
            yield staged
        if self.keyring.has("aggregator"):
            yield self.keyring.find("aggregator")

    def settle(self) -> None:
        """Put keys into their place that the root names by now."""
        for role in self.keyring.settle(_look(self.view, self.folder).root):
            typer.echo(f"the new key of {role} is in its place, and the one before it is {role}.pem.old", err=True)


def hold(url: str, *, root: str | None = None) -> Holding:
    """Open the federation in a store as its operator.

    Args:
        url: The store.
        root: What the user says its fingerprint is; it is known here from then on.

    Raises:
        FederationError: It holds none, or one without a root.
        UnknownRootError: Its root is not known on this machine.
        TrustError: It is another one, or not signed as it has to be.
    """
    store = open_store(url)
    anchor = find_anchor(signed_reader(store), url, home=home_folder(), root=root)
    settings, _ = read_settings(store, fingerprint=anchor.fingerprint if anchor else None)
    view = view_of(store, settings, root=Memory(anchor.folder).newest_root() if anchor else None)
    if view is None or anchor is None:
        raise FederationError(
            f"{url}: this federation has no root, and so no keys or members; coldfuse init {url} --adopt gives it one"
        )
    known = _look(view, anchor.folder)
    _note(settings, anchor.folder)
    holding = Holding(url, store, settings, view, known, anchor.folder, keyring_of(anchor.folder))
    holding.settle()
    return holding


def _look(view: TrustView, folder: FederationFolder) -> Known:
    """Return root and members as they are, never older than this user has seen or made them.

    Else an operator would sign an older list again as the newest one, without those who were revoked meanwhile.
    """
    memory = Memory(folder)
    with _advised(folder, "revoke and enroll again whom the older one does not know of"):
        memory.keep_root(*view.refresh_root())
        known = view.refresh(members=memory.seen().members)
        memory.change(lambda seen: with_members(seen, known.members.version))
    return known


def _note(settings: FederationSettings, folder: FederationFolder) -> None:
    """Take note of settings, never older ones than this user has seen or made: else they would be signed again."""
    with _advised(folder, "make again what was changed since"):
        Memory(folder).change(lambda seen: with_settings(seen, settings.number))


@contextmanager
def _advised(folder: FederationFolder, then: str) -> Iterator[None]:
    """Say what an operator can do where something newer was seen before."""
    try:
        yield
    except RollbackError as error:
        raise RollbackError(
            f"{error}; put the newer one back from a copy, or, where it is lost for good, remove seen.json and "
            f"newest.json in {folder.path}, and {then}"
        ) from error


def keyring_of(folder: FederationFolder) -> RoleKeyring:
    """Return the keys of roles that this user holds of a federation."""
    return RoleKeyring(folder.keys, credentials_folder(), ask_on_terminal())
