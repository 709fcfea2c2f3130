"""What a gateway takes from callers that it does not know, and what it tells them of what others have sent: nothing.

Whether a part exists shows in three places, and is kept from strangers in each. Asked what is missing, a gateway counts
as present only what this sender has brought. A part that is there already is taken again to its last byte, and answered
like a new one. And a commit that names a part which is not there does not say which, so that a guess cannot be tried
beside one that is certainly missing. What is left: who guesses every byte of a delta can commit it as their own; that
leaves a record under a name, and screening rejects copies.

The price is that the same bytes from two senders travel twice, and that a client of an older version, which does not
say who it is, begins again where it was cut off. Deltas of two contributors have no parts in common, so the first is
rare.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

from coldfuse.core.blob import Part
from coldfuse.core.signature import Signature
from coldfuse.errors import StorageError
from coldfuse.gateway.answers import ContributionVerdict
from coldfuse.gateway.arrivals import Arrivals
from coldfuse.gateway.contributions import read_manifest
from coldfuse.gateway.leftovers import KEEP_S, SETTLE_S, Condemned, drop_leftovers
from coldfuse.gateway.sent import Sender
from coldfuse.gateway.store import StoreGateway
from coldfuse.gateway.upload import PartUpload
from coldfuse.registry.federation import Federation
from coldfuse.trust.rights import Asker

logger = logging.getLogger(__name__)

MAX_SECRET_CHARS = 256

_UNNAMED = "0" * 32
"""Owner of what comes from clients that do not say who they are: nobody hears that it is there."""


def sender_of(secret: str | None, caller: str) -> Sender:
    """Return who brings parts, without the secret and without the address.

    Args:
        secret: What the client sends to show that it is the same one; None from older clients.
        caller: Where it calls from.
    """
    owner = _UNNAMED if not secret else hashlib.sha256(secret[:MAX_SECRET_CHARS].encode()).hexdigest()[:32]
    return Sender(owner, hashlib.sha256(caller.encode()).hexdigest()[:8])


def sender_of_member(asker: Asker, caller: str) -> Sender:
    """Return a member as who brings parts, through whichever gateway; `caller` is who it shares limits with."""
    owner = hashlib.sha256(f"member {asker.name}".encode()).hexdigest()
    quota = asker.member.quota.uncommitted_bytes if asker.member is not None else None
    return Sender(owner[:32], hashlib.sha256(caller.encode()).hexdigest()[:8], quota)


class Intake:
    """The way into the store for parts and contributions of strangers. Any thread may call it."""

    def __init__(
        self,
        gateway: StoreGateway,
        federation: Federation,
        *,
        max_uncommitted_bytes: int | None = None,
        why_not: Callable[[], str | None] | None = None,
    ) -> None:
        """Take what is served.

        Args:
            gateway: The federation, as others see it.
            federation: The same, opened.
            max_uncommitted_bytes: How many bytes the federation takes that nobody has committed; None: any number.
            why_not: Says why the store takes nothing, or None; asked now and then until it does. None: it does.
        """
        self._gateway = gateway
        self._federation = federation
        self._arrivals = Arrivals(federation.store, max_bytes=max_uncommitted_bytes)
        self._condemned = Condemned(federation.store)
        self._why_not = why_not
        self.refusal: str | None = why_not() if why_not is not None else None
        """Why nothing is taken at present; None: it is."""

    def find_missing(self, parts: Sequence[Part], sender: Sender) -> list[Part]:
        """Return the parts that this sender has not brought, each once, in their order.

        Costs a look at what the sender has brought, however many parts are asked for.
        """
        distinct = list(dict.fromkeys(parts))
        if sender.owner == _UNNAMED:
            return distinct
        brought = self._arrivals.held(sender.owner).intersection(distinct)
        gone = set(self._gateway.find_missing([part for part in distinct if part in brought]))
        return [part for part in distinct if part not in brought or part in gone]

    def begin_upload(self, part: Part, sender: Sender) -> PartUpload:
        """Start to take a part, whether it is there or not.

        Raises:
            GatewayBusyError: Too much was sent and not committed, or these very bytes are being dropped.
            StorageError: The store takes nothing at present.
        """
        self._require_open()
        self._arrivals.check_room(sender, part.size_bytes)
        self._condemned.check([part])
        return self._gateway.take(part, on_stored=partial(self._note, sender))

    def commit(self, data: bytes, sender: Sender, signature: Signature | None = None) -> ContributionVerdict:
        """Take a contribution by its manifest's bytes."""
        self._require_open()
        parts = read_manifest(data).parts
        verdict = self._gateway.commit_bytes(data, signature)
        self._arrivals.committed(sender.owner if sender.owner != _UNNAMED else None, parts)
        return verdict

    def look_again(self) -> None:
        """Find out whether the store takes something by now, where it did not."""
        if self.refusal is not None and self._why_not is not None:
            self.refusal = self._why_not()

    def write_lists(self) -> None:
        """Keep in the store what came some seconds ago."""
        self._arrivals.write_lists()

    def __enter__(self) -> Self:
        """Return the intake itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Keep in the store all that came."""
        try:
            self._arrivals.write_lists(older_than_s=0.0)
        except StorageError as error:  # as after a kill: only their space goes uncounted
            logger.warning("the lists of parts that came cannot be written: %s", error)

    def collect(self, wait: Callable[[float], bool], *, keep_s: float = KEEP_S, settle_s: float = SETTLE_S) -> int:
        """Drop parts that nobody committed, and return how many."""
        return drop_leftovers(
            self._federation, is_quiet=self._gateway.takes_contributions, wait=wait, keep_s=keep_s, settle_s=settle_s
        )

    def _note(self, sender: Sender, part: Part, is_new: bool) -> None:
        self._arrivals.note(sender, part, is_new=is_new)
        self._condemned.check([part])  # it may have come over hours

    def _require_open(self) -> None:
        if self.refusal is not None:
            raise StorageError(f"this gateway takes no contributions at present: {self.refusal}")
