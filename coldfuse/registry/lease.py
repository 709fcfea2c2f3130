"""The aggregator's lease: one leads, the others wait.

A lease is one small object, renewed by compare and swap. Whether a holder is alive is judged without comparing clocks
of two machines: a lease is dead when its object has not changed for its time to live *on the observer's own* monotonic
clock. A leader that was paused for longer may believe for a moment that it still leads; its writes then lose their
compare and swap (`journal`), so that nothing is decided twice.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from coldfuse.core.sealed import seal, unseal
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, ConflictError, LeaseLostError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import ObjectStore

log = logging.getLogger(__name__)

KEY = "leases/aggregator"

RETRACTING = "retract "
"""Purpose of who retracts, and must not be disturbed by who only cleans up."""

MAX_TTL_S = 3600.0
"""Seconds after which any lease is dead, whatever it says."""


def _always() -> bool:
    """Say that the holder works, whatever it does."""
    return True


class LeaseRecord(Value):
    """Who leads."""

    holder: str
    """Host, process and a random suffix of the leader; empty: the lease was given back."""
    renewal: int
    """Number of renewals so far: it makes every record differ from the one before."""
    ttl_s: float
    """Seconds without a renewal after which the lease is dead."""
    expires_at_s: float
    """Seconds since 1970 by the holder's clock, for people only."""


class Lease:
    """One aggregator's hold, or wish for it. After `try_acquire` a thread renews it until `release`."""

    def __init__(
        self, store: ObjectStore, *, ttl_s: float, moves: Callable[[], bool] = _always, purpose: str = ""
    ) -> None:
        """Wish for the lease; nothing is asked of the store yet.

        Args:
            store: Where the federation lies.
            ttl_s: Seconds that the others wait for a renewal; a third of it passes between two.
            moves: Asked before each renewal, from its thread: a holder whose work stands still gives the lease up.
            purpose: Begins the holder's name, where it does something else than leading rounds.
        """
        self.holder = f"{purpose}{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._store = store
        self._moves = moves
        self._ttl_s = ttl_s
        self._etag: str | None = None
        self._renewal = 0
        self._renewed_at = float("-inf")
        self._seen: tuple[str | None, float] = (None, 0.0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def try_acquire(self) -> LeaseRecord | None:
        """Take the lease if it is free or dead, and return None; otherwise return who holds it.

        A lease can only be found dead by who has watched it for its time to live: call this again and again.
        """
        record, etag = read_lease(self._store)
        if etag != self._seen[0]:
            self._seen = (etag, time.monotonic())
        free = record is None or not record.holder
        ttl_s = min(record.ttl_s, MAX_TTL_S) if record and record.renewal else self._ttl_s  # damaged: as one's own
        if record is not None and not free and time.monotonic() - self._seen[1] < ttl_s:
            return record
        self._renewal = 0 if record is None else record.renewal
        try:
            self._begin(etag)
        except ConflictError:
            return read_lease(self._store)[0]
        return None

    def take_over(self) -> LeaseRecord | None:
        """Take the lease from whoever has it, and return who did; None: it was free.

        Who led finds out at its next renewal; what it writes until then may still count.

        Raises:
            ConflictError: It changes hands at this moment.
        """
        record, etag = read_lease(self._store)
        self._renewal = 0 if record is None else record.renewal
        self._begin(etag)
        return record if record is not None and record.holder else None

    @classmethod
    def taken(
        cls, store: ObjectStore, *, ttl_s: float, wait: Callable[[float], None] = time.sleep, purpose: str = ""
    ) -> Lease:
        """Take the lease from whoever has it, and wait until who led must have found out. For a `with` block.

        Args:
            store: Where the federation lies.
            ttl_s: Seconds after which others may lead again where this process is killed.
            wait: Waits for so many seconds.
            purpose: As for a lease that is wished for.

        Raises:
            ConflictError: It changes hands at this moment.
        """
        lease = cls(store, ttl_s=ttl_s, purpose=purpose)
        if (leader := lease.take_over()) is not None:
            log.warning("%s led until now", leader.holder)
            wait(min(leader.ttl_s, ttl_s))
        return lease

    def _begin(self, etag: str | None) -> None:
        self._write(self.holder, etag)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that this process led a moment ago.

        Raises:
            LeaseLostError: Another aggregator may lead by now; write nothing more.
        """
        if self._stop.is_set() or time.monotonic() - self._renewed_at > self._ttl_s:
            raise LeaseLostError(f"the lease of {self.holder} was lost; another aggregator may lead now")

    def release(self) -> None:
        """Stop renewing, and let another take over at once."""
        was_lost = self._stop.is_set()
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join()
        if not was_lost:
            self._give_back()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _keep(self) -> None:
        told = ""  # a failing store is said when it begins to fail, not at every try
        while not self._stop.wait(self._ttl_s / 3):
            if not self._moves():
                log.error("nothing moves here any more: %s gives the lease up", self.holder)
                self._stop.set()
                self._give_back()
                return
            try:
                self._write(self.holder, self._etag)
            except ConflictError:
                log.warning("the lease of %s was taken by another aggregator", self.holder)
                self._stop.set()
            except StorageError as error:  # the store may come back before the time to live is over; `check` knows
                if str(error) != told:
                    log.warning("the lease cannot be renewed: %s", error)
                told = str(error)
            else:
                told = ""

    def _give_back(self) -> None:
        try:
            self._write("", self._etag)
        except StorageError as error:  # it was lost or the store is away: the time to live ends it
            log.info("the lease was not given back: %s", error)

    def _write(self, holder: str, etag: str | None) -> None:
        began = time.monotonic()
        self._renewal += 1
        expires_at_s = round(time.time() + self._ttl_s, 3)
        record = LeaseRecord(holder=holder, renewal=self._renewal, ttl_s=self._ttl_s, expires_at_s=expires_at_s)
        self._etag = self._store.compare_and_swap(KEY, seal(record), etag=etag)
        self._renewed_at = began  # not the end: the others may have seen the record since the store took it


def read_lease(store: ObjectStore) -> tuple[LeaseRecord | None, str | None]:
    """Read who leads, and the etag of that record."""
    try:
        data, etag = store.get_with_etag(KEY)
    except ObjectNotFoundError:
        return None, None
    try:
        return unseal(LeaseRecord, data, what=KEY), etag
    except CodecError:  # damaged: it is dead when nobody has written it anew for as long as leases live
        return LeaseRecord(holder="whoever wrote a damaged lease", renewal=0, ttl_s=MAX_TTL_S, expires_at_s=0.0), etag
