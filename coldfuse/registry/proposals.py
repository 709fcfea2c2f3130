"""Changes that several operators have to sign, on machines of their own.

Each signs the very same bytes and leaves the signatures in the store; whoever adds the last one publishes:

    proposals/<id>/<number>-<kind>-<key id>.json    one document of a change, with one operator's signature

The id is the SHA-256 of the documents, so that nobody exchanges one for another. What nobody has signed who may is not
looked at. A change of the root that takes operators away brings the list of members and the settings with it, signed
once more: they are published before the root, so that at no moment somebody reads what nobody vouches for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from coldfuse.core.federation import FederationSettings
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode, encode, sha256
from coldfuse.core.signature import Signature
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, ConflictError, ObjectNotFoundError, SignatureError, UserInputError
from coldfuse.registry.settings import keep_last_change, put_settings, read_settings
from coldfuse.registry.signed_channels import fits, put_channel
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.envelope import detached, envelope_of, read_envelope, verify_detached
from coldfuse.trust.keys import PublicKey, Signer
from coldfuse.trust.members import Members
from coldfuse.trust.root import Root
from coldfuse.trust.root_changes import lacks, still_to_sign
from coldfuse.trust.view import Known, members_key, root_key

ProposedKind = Literal["members", "federation", "channel", "root"]
"""What can be proposed, in the order in which it is published."""

MAX_SIGNATURES_READ = 500
"""Objects that are read of all proposals at most: more than a federation's operators leave."""

_MAX_BYTES = MAX_MANIFEST_BYTES * 3 // 4 - (64 << 10)
"""Length of a document at most: in base64, with its signatures, it is still read."""

_ID_CHARS = 16
_KEY = re.compile(r"proposals/([0-9a-f]{16})/([0-3])-(members|federation|channel|root)-[0-9a-f]{64}\.json")


@dataclass(frozen=True)
class Document:
    """What is to be signed."""

    kind: ProposedKind
    payload: bytes

    @classmethod
    def of(cls, kind: ProposedKind, value: Value) -> Document:
        """Return a value as what is to be signed.

        Raises:
            UserInputError: It is more than can be read again.
        """
        payload = encode(value)
        if len(payload) > _MAX_BYTES:
            raise UserInputError(f"{kind}: would have {len(payload):,} bytes, expected at most {_MAX_BYTES:,}")
        return cls(kind, payload)

    def root(self) -> Root:
        """Return the root that it is."""
        return decode(Root, self.payload, what="the proposed root")

    def members(self) -> Members:
        """Return the list of members that it is."""
        return decode(Members, self.payload, what="the proposed members")

    def channel(self) -> SignedChannel:
        """Return the channel that it is."""
        return decode(SignedChannel, self.payload, what="the proposed channel")

    def settings(self) -> FederationSettings:
        """Return the settings that it is."""
        return decode(FederationSettings, self.payload, what="the proposed settings")


@dataclass(frozen=True)
class Proposal:
    """Documents that are published together, and who has signed them."""

    documents: tuple[Document, ...]
    signatures: tuple[tuple[Signature, ...], ...] = ()
    """Signatures of each document, that fit."""

    @property
    def id(self) -> str:
        """What people call it by: the beginning of the SHA-256 of what is to be signed."""
        return sha256("".join(sha256(each.payload) for each in self.documents).encode())[:_ID_CHARS]

    @property
    def new_root(self) -> Root | None:
        """The root that it brings; None where it changes none."""
        return next((each.root() for each in self.documents if each.kind == "root"), None)

    def signed(self, signers: Sequence[Signer]) -> Proposal:
        """Return it with signatures of these, too; one of the same key is replaced."""
        held = self.signatures or tuple(() for _ in self.documents)
        ids = {signer.public.id for signer in signers}
        added = [
            (
                *(each for each in before if each.keyid not in ids),
                *(detached(document.payload, document.kind, signer) for signer in signers),
            )
            for document, before in zip(self.documents, held, strict=True)
        ]
        return replace(self, signatures=tuple(added))

    def lacking(self, known: Known) -> list[str]:
        """Say whose signatures it lacks; empty once it can be published."""
        after, found = self.new_root, list[str]()
        for document, signatures in zip(self.documents, self.signatures, strict=True):
            ids = [each.keyid for each in signatures]
            if document.kind == "root":
                found += still_to_sign(known.root, document.root(), ids)
            else:
                found += filter(None, [lacks(root, "operator", ids) for root in (known.root, after) if root])
        return list(dict.fromkeys(found))

    def envelopes(self) -> Iterator[tuple[Document, bytes]]:
        """Return the documents as they are published."""
        for document, signatures in zip(self.documents, self.signatures, strict=True):
            yield document, envelope_of(document.payload, document.kind, signatures)


def arrange(documents: Iterable[Document]) -> Proposal:
    """Return a proposal that nobody has signed, its documents in the order in which they are published."""
    order = get_args(ProposedKind)
    return Proposal(tuple(sorted(documents, key=lambda each: order.index(each.kind)))).signed([])


def keep_proposal(store: ObjectStore, proposal: Proposal) -> None:
    """Leave the signatures in the store, for other operators to add theirs."""
    for number, (document, signatures) in enumerate(zip(proposal.documents, proposal.signatures, strict=True)):
        for signature in signatures:
            key = f"proposals/{proposal.id}/{number}-{document.kind}-{signature.keyid}.json"
            store.put_if_absent(key, envelope_of(document.payload, document.kind, [signature]))


def read_proposals(store: ObjectStore, known: Known) -> list[Proposal]:
    """Return the proposals that can still be published, signed by somebody who may.

    Args:
        store: The federation's store.
        known: The root and the members as they are.
    """
    found: dict[str, dict[int, Document]] = {}
    signatures: dict[tuple[str, int], list[Signature]] = {}
    for key in store.list("proposals/", limit=MAX_SIGNATURES_READ).keys:
        match = _KEY.fullmatch(key)
        if match is None:
            continue
        name, number, kind = match[1], int(match[2]), cast("ProposedKind", match[3])
        try:
            envelope = read_envelope(_get(store, key), what=key)
            document = Document(kind, envelope.content(kind, what=key))
        except (CodecError, ObjectNotFoundError):
            continue  # whoever can write to the store can leave anything here
        if found.setdefault(name, {}).setdefault(number, document) == document:
            signatures.setdefault((name, number), []).extend(envelope.signatures)
    proposals = (_complete(name, documents, signatures, known) for name, documents in found.items())
    return [each for each in proposals if each is not None and is_current(store, each, known)]


def find_proposal(proposals: Sequence[Proposal], given: str) -> Proposal:
    """Return the proposal with this id, or the beginning of one."""
    found = [each for each in proposals if each.id.startswith(given.lower())]
    if len(found) != 1 or not given:
        names = ", ".join(each.id for each in proposals) or "none"
        raise UserInputError(f"{given[:80]!r}: is no proposal that can be signed; there is {names}")
    return found[0]


def is_current(store: ObjectStore, proposal: Proposal, known: Known) -> bool:
    """Tell whether a proposal still fits what is there: nobody has changed the same meanwhile."""
    for document in proposal.documents:
        if document.kind == "root":
            is_next = document.root().version == known.root.version + 1
        elif document.kind == "members":
            members = document.members()
            is_next = members.version == known.members.version + 1 or members == known.members
            is_next = is_next and members.federation == known.fingerprint  # else nobody could read any members again
        elif document.kind == "channel":
            is_next = fits(store, document.channel(), known)
        else:
            settings = document.settings()
            is_next = settings.number - read_settings(store)[0].number in (0, 1)
            is_next = is_next and settings.root == known.fingerprint
        if not is_next:
            return False
    return True


def publish(store: ObjectStore, proposal: Proposal, known: Known) -> None:
    """Publish what enough operators have signed, the root last. Done again after a crash, it goes on.

    Raises:
        SignatureError: Too few have signed it; nothing was written.
        ConflictError: Somebody else has changed the same meanwhile.
    """
    if lacking := proposal.lacking(known):
        raise SignatureError(f"proposal {proposal.id}: lacks {'; '.join(lacking)}")
    for document, envelope in proposal.envelopes():
        if document.kind == "root":
            _put(store, root_key(document.root().version), envelope, document)
        elif document.kind == "members":
            _put(store, members_key(document.members().version), envelope, document)
        elif document.kind == "channel":
            put_channel(store, document.channel(), envelope, known)
        else:
            _put_settings(store, envelope, document, known)
    for key in store.list(f"proposals/{proposal.id}/").keys:
        store.delete(key)


def _put_settings(store: ObjectStore, envelope: bytes, document: Document, known: Known) -> None:
    before, etag = read_settings(store)
    after = document.settings()
    if after != before:
        if after.number != before.number + 1:
            raise ConflictError("somebody else has changed the settings meanwhile; look at them, and propose it again")
        keep_last_change(store, before)
    put_settings(store, envelope, etag=etag, fingerprint=known.fingerprint)


def _put(store: ObjectStore, key: str, envelope: bytes, document: Document) -> None:
    if store.put_if_absent(key, envelope):
        return
    there = read_envelope(_get(store, key), what=key).content(document.kind, what=key)
    if there != document.payload:
        raise ConflictError(f"{key}: somebody else has changed it meanwhile; look at it, and do it again")


def _complete(
    name: str,
    documents: Mapping[int, Document],
    signatures: Mapping[tuple[str, int], Sequence[Signature]],
    known: Known,
) -> Proposal | None:
    """Return a proposal with the signatures that fit; None where it is not whole, or nobody has signed it who may."""
    try:
        proposal = arrange(documents[number] for number in sorted(documents))
        if proposal.id != name or [each.kind for each in proposal.documents] != [
            documents[number].kind for number in sorted(documents)
        ]:
            return None
        roots = [root for root in (known.root, proposal.new_root) if root]
    except CodecError:
        return None
    keys = {key.id: key for root in roots for key in root.keys.values()}
    fitting = tuple(
        tuple(_fitting(document, signatures[name, number], keys)) for number, document in enumerate(proposal.documents)
    )
    today = {each for role in ("root", "operator") for each in known.root.roles[role].keys}
    if not any(signature.keyid in today for each in fitting for signature in each):
        return None
    return replace(proposal, signatures=fitting)


def _fitting(
    document: Document, signatures: Collection[Signature], keys: Mapping[str, PublicKey]
) -> Iterator[Signature]:
    seen = set[str]()
    for signature in signatures:
        if signature.keyid not in keys or signature.keyid in seen:
            continue
        try:
            verify_detached(
                document.payload, document.kind, [signature], keys=[keys[signature.keyid]], what="a proposal"
            )
        except (SignatureError, CodecError):
            continue
        seen.add(signature.keyid)
        yield signature


def _get(store: ObjectStore, key: str) -> bytes:
    return store.get(key, length=MAX_MANIFEST_BYTES + 1)
