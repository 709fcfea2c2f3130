"""How the head and the leader's entries of a journal are written: with a seal, or signed, each naming the one before.

With a root, the head and the newest entry are the same bytes: an envelope of the aggregator's over a `Link`. So an
entry that a leader could not write any more is written by whoever finds its head, without a key. A link has its place
in its round and in its federation, and names the link before it by the SHA-256 of what was signed: nothing can be
taken out, put in or moved. The first link of a round names one of the round before.

What a disk has damaged is told from what was forged by the seal: damaged is what cannot be read as anything, and is
made anew or left out as ever. What can be read, and is not signed, or not in its place, is forged: `TrustError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coldfuse.core.contribution import Count
from coldfuse.core.round import EVENT, LeaderEvent, Received
from coldfuse.core.sealed import seal, unseal, unsealed
from coldfuse.core.serialization import decode, decode_any, encode, sha256
from coldfuse.core.value import Digest, Value
from coldfuse.errors import ChainError, CodecError, SignatureError
from coldfuse.registry.signed import check_sealed, write_signed
from coldfuse.trust.envelope import MAX_ENTRY_BYTES, read_envelope, verify_detached
from coldfuse.trust.keys import Signer
from coldfuse.trust.view import TrustView


class Head(Value):
    """The last entry, and its place in the sequence."""

    seq: int
    """Place of the entry in the leader's sequence, from 0."""
    entry: LeaderEvent
    is_abandoned: bool | None = None
    """Whether the round was abandoned, by this entry or by one before; None: an older version wrote it."""


class Link(Head):
    """An entry of a journal, as it is signed."""

    federation: Digest
    """Fingerprint of the root."""
    round: Count
    """Number of the round."""
    before: Digest | None
    """SHA-256 of the payload of the link before it: for the first of a round, of one of the round before; None where
    nothing was signed before."""


def read_link(payload: bytes, *, what: str) -> Link:
    """Return a link from what was signed; raises `CodecError` if it is none."""
    return decode(Link, payload, what=what, limit=MAX_ENTRY_BYTES)


@dataclass(frozen=True)
class Written:
    """An entry in its place, and how it is written."""

    head: Head
    data: bytes
    """What lies, or belongs, under the head's key."""
    digest: str | None = None
    """SHA-256 of what was signed; None where nothing is."""
    before: str | None = None
    """The same of the link before it."""
    generation: int = 0
    """Version of the newest root that names the key that has signed it."""
    signer: str | None = None
    """Id of that key."""


class Codec(Protocol):
    """How one round's journal is written."""

    @property
    def is_signed(self) -> bool:
        """Whether what stands in it is believed for its signatures alone."""

    def write(self, head: Head, *, before: str | None) -> Written:
        """Write an entry with its place, after the link of this digest."""

    def entry_bytes(self, written: Written) -> bytes:
        """Return what belongs under the entry's own key."""

    def read_head(self, data: bytes, *, what: str) -> Written:
        """Read a head.

        Raises:
            CodecError: It is damaged.
            TrustError: It is forged.
        """

    def read_entry(self, data: bytes, *, seq: int, what: str) -> Written:
        """Read the leader's entry in this place; raises as `read_head`."""


class Plain:
    """Journals of federations without a root."""

    is_signed = False

    def write(self, head: Head, *, before: str | None) -> Written:  # noqa: ARG002 - there is no chain
        """Write an entry with its place."""
        return Written(head, seal(head))

    def entry_bytes(self, written: Written) -> bytes:
        """Return the entry alone."""
        return seal(written.head.entry)

    def read_head(self, data: bytes, *, what: str) -> Written:
        """Read a head."""
        return Written(unseal(Head, data, what=what), data)

    def read_entry(self, data: bytes, *, seq: int, what: str) -> Written:
        """Read an entry, whose place its name says."""
        event = unsealed(data, lambda: decode_any(EVENT, data, what=what), what=what)
        if isinstance(event, Received):
            raise CodecError(f"{what}: holds another entry than its name says")
        return Written(Head(seq=seq, entry=event), data)


@dataclass(frozen=True)
class Chain:
    """The journal of a round of a federation with a root."""

    trust: TrustView
    round: int
    signer: Signer | None
    """The aggregator's key; None for who only reads."""
    is_signed: bool = True

    def write(self, head: Head, *, before: str | None) -> Written:
        """Sign an entry with its place, after the link of this digest."""
        if self.signer is None:
            raise SignatureError(f"round {self.round}: only who has the aggregator's key writes into its journal")
        link = Link(
            **dict(head), federation=self.trust.known().fingerprint, round=self.round, before=before
        )  # fmt: skip
        payload = encode(link)
        data = write_signed(payload, "journal", [self.signer], limit=MAX_ENTRY_BYTES)
        generation, _ = self.trust.ever("aggregator").get(self.signer.public.id, (0, None))
        return Written(link, data, sha256(payload), before, generation)

    def entry_bytes(self, written: Written) -> bytes:
        """Return the same bytes as the head's."""
        return written.data

    def read_head(self, data: bytes, *, what: str) -> Written:
        """Read a head, verified."""
        _require_no_plain(lambda: Plain().read_head(data, what=what), what=what)
        return self._read(data, what=what)

    def read_entry(self, data: bytes, *, seq: int, what: str) -> Written:
        """Read the link in this place, verified."""
        _require_no_plain(lambda: Plain().read_entry(data, seq=seq, what=what), what=what)
        written = self._read(data, what=what)
        if written.head.seq != seq:
            raise ChainError(f"{what}: is entry {written.head.seq} of round {self.round}, put in the place of {seq}")
        return written

    def _read(self, data: bytes, *, what: str) -> Written:
        check_sealed(data, what=what, limit=MAX_ENTRY_BYTES)
        try:
            payload, generation, keyid = self._verified(data, what=what)
            link = read_link(payload, what=what)
        except CodecError as error:  # its seal is right: no disk has made that of it
            raise SignatureError(f"{what}: is no entry of a journal; somebody has put it there: {error}") from error
        federation = self.trust.known().fingerprint
        if (link.federation, link.round) != (federation, self.round):
            raise ChainError(
                f"{what}: is an entry of round {link.round} of {link.federation[:12]}, expected round {self.round} of "
                f"{federation[:12]}; somebody has put it there"
            )
        return Written(link, data, sha256(payload), link.before, generation, keyid)

    def _verified(self, data: bytes, *, what: str) -> tuple[bytes, int, str]:
        """Return what any of the aggregators' keys has signed, the newest root that names this key, and its id."""
        try:
            return self._verify(data, what=what)
        except SignatureError:
            before = self.trust.known().root.version
            if self.trust.refresh().root.version == before:
                raise
            return self._verify(data, what=what)

    def _verify(self, data: bytes, *, what: str) -> tuple[bytes, int, str]:
        self.trust.known()  # reads the roots
        ever = self.trust.ever("aggregator")
        envelope = read_envelope(data, what=what, limit=MAX_ENTRY_BYTES)
        if len(envelope.signatures) != 1:  # one that fits would let others pass, which say of when it is
            raise SignatureError(f"{what}: has {len(envelope.signatures)} signatures, expected the aggregator's alone")
        payload, (signature,) = envelope.content("journal", what=what), envelope.signatures
        keys = [key for _, key in ever.values()]
        verify_detached(payload, "journal", [signature], keys=keys, what=what)
        return payload, ever[signature.keyid][0], signature.keyid


def _require_no_plain(read: Callable[[], object], *, what: str) -> None:
    """Raise `SignatureError` for what reads as an entry that nobody has signed."""
    try:
        read()
    except CodecError:
        return
    raise SignatureError(f"{what}: is signed by nobody, expected the aggregator; somebody has put it there")
