"""A standing check: of the releases that come out, those that a member's lot draws are fused again, and it says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.engine.execution import Executor
from coldfuse.errors import ColdfuseError
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.check import is_drawn, sign_check, word_key
from coldfuse.trust.identity import Identity
from coldfuse.verification.checking import check_of
from coldfuse.verification.findings import Recomputed
from coldfuse.verification.remote import recompute_over
from coldfuse.verification.store import Request, verify_store

Say = Callable[[int, str], None]
"""say(release, message): tells the user what came of looking at a release."""


@dataclass(frozen=True, kw_only=True)
class StandingCheck:
    """Looks at releases as they come out, in a thread of its own."""

    gateway: TrustedGateway
    """Whom to ask for releases, and who takes the word on them."""
    identity: Identity
    """As which member."""
    share: float
    """Share of the releases that are looked at, from 0 to 1."""
    executor: Executor
    say: Say
    store: ObjectStore | None = None
    """Where what releases were made from can be read; None: the gateway is asked, in an auditable federation."""

    def run(self, stop: threading.Event) -> None:
        """Look at every release from the latest one on, until stopped."""
        seen: int | None = None
        pause_s = 1.0
        while not stop.is_set():
            try:
                status = self.gateway.status()
                latest, pause_s = status.latest.number, max(status.poll_after_s, 1.0)
                for number in range(max(latest if seen is None else seen + 1, 1), latest + 1):
                    if stop.is_set():
                        return
                    self.look(number)
                    seen = number
                seen = latest if seen is None else seen
            except ColdfuseError as error:  # away, or about to be renewed: it is asked again
                self.say(seen or 0, f"the standing check waits: {error}")
                pause_s = min(2 * pause_s, 60.0)
            except ValueError:  # gRPC's word for a call after hanging up: the node was asked to stop
                return
            stop.wait(pause_s)

    def look(self, number: int) -> Recomputed | None:
        """Fuse a release again if the lot draws it, sign what came of it, and hand that in; None if it was not drawn.

        Raises:
            ColdfuseError: The gateway is away, or takes no word of this member's.
        """
        manifest = self.gateway.release_name(number)
        if not is_drawn(self.identity, manifest, share=self.share):
            return None
        if self.gateway.read_signed(word_key(number, self.identity.name)) is not None:
            return None  # said before this was started again
        found = self._again(number)
        check = check_of(found, self.identity, now_s=time.time())
        if check is None:
            self.say(number, f"could not be fused again: {found.why}")
            return found
        self.gateway.put_check(sign_check(check, self.identity))
        self.say(number, "was fused again: the same bytes" if check.agrees else f"IS NOT WHAT IT SAYS: {found.why}")
        return found

    def _again(self, number: int) -> Recomputed:
        if self.store is None:
            return recompute_over(self.gateway, number, executor=self.executor, now_s=time.time())
        request = Request(
            at_s=time.time(),
            fingerprint=self.gateway.fingerprint,
            release=number,
            executor=self.executor,
            is_alone=True,
        )
        found = verify_store(self.store, request).recomputed
        manifest = self.gateway.release_name(number)
        return found[0] if found else Recomputed(release=number, manifest=manifest, agrees=None, why="it is a base")
