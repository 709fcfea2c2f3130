"""The aggregator as a service: take the lease, then round after round until stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.release import require_memory
from coldfuse.aggregator.round import Round, advance
from coldfuse.core.round import LeaderEvent
from coldfuse.engine.execution import Executor
from coldfuse.errors import ConflictError, LeaseLostError, StorageError, WorkerLostError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.lease import Lease
from coldfuse.registry.settings import keep_copy, mend_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AggregatorSettings:
    """How an aggregator runs."""

    rounds: int | None = None
    """Number of releases to publish before ending; None: no end."""
    poll_s: float = 0.5
    """Seconds between two looks at the store while a round waits."""
    lease_ttl_s: float = 10.0
    """Seconds after which another aggregator takes over from one that died."""


def serve_rounds(
    federation: Federation,
    executor: Executor,
    settings: AggregatorSettings,
    *,
    stop: threading.Event,
    announce: Callable[[str], None] = log.info,
) -> Iterator[tuple[int, LeaderEvent]]:
    """Lead whenever the lease can be had, until enough is published or somebody stops it.

    A store that is away, a lost lease or a lost worker is logged, waited for and tried again.

    Args:
        federation: The federation whose rounds are led.
        executor: Runs the tasks that screen and fuse.
        settings: How often to look, and when to end.
        stop: Ends the service once set; what a round has appended by then is kept.
        announce: Is told who leads whenever that changes: this process, or another that it waits for.

    Yields:
        The round's number and the event, for every event that was appended to a journal.

    Raises:
        UserInputError: A worker has too little memory for this model.
    """
    published = 0
    while not stop.is_set():
        lease = Lease(federation.store, ttl_s=settings.lease_ttl_s)
        try:
            if not _acquire(lease, settings, stop, announce):
                return
            for number, event in _lead(federation, executor, settings, lease=lease, stop=stop):
                yield number, event
                published += event.event == "published"
                if published == settings.rounds:
                    return
        except (LeaseLostError, ConflictError) as error:
            log.warning("%s", error)  # somebody else acted: read everything again
            stop.wait(settings.poll_s)
        except (StorageError, WorkerLostError) as error:
            log.warning("trying again: %s", error)
            stop.wait(settings.lease_ttl_s / 3)
        finally:
            lease.release()


def _acquire(
    lease: Lease, settings: AggregatorSettings, stop: threading.Event, announce: Callable[[str], None]
) -> bool:
    """Wait until this process leads; False if it was stopped before."""
    announced: str | None = None  # said once a leader, not at every look
    while (record := lease.try_acquire()) is not None:
        if record.holder != announced:
            announced = record.holder
            announce(f"waiting: {announced} leads")
        if stop.wait(min(settings.poll_s, settings.lease_ttl_s / 5)):
            return False
    announce(f"leading as {lease.holder}")
    return True


def _lead(
    federation: Federation, executor: Executor, settings: AggregatorSettings, *, lease: Lease, stop: threading.Event
) -> Iterator[tuple[int, LeaderEvent]]:
    """Advance the current round, and the one before it: late contributions to that one still get their verdicts."""
    mend_settings(federation.store)
    pointer, federation = federation.mended_latest(), federation.reopened()
    keep_copy(federation.store, federation.settings)
    base = open_base(federation, federation.latest())
    journals: dict[int, Journal] = {}  # kept, because a journal remembers what it has read
    number = federation.current_round()
    settled = max(number - 2, 0)  # rounds up to this one have nothing left to be done
    ready_for = 0  # the number of the newest round whose rules this machine has the memory for
    while not stop.is_set():
        lease.check()
        if (now := federation.mended_latest()) != pointer:
            pointer = now
            base = open_base(federation, federation.latest())
        number = federation.current_round(at_least=number)
        if number > ready_for:  # before it is opened: an operator may have set another method
            require_memory(federation.reopened(), base, executor)
            ready_for = number
        idle = True
        for round_number in range(settled + 1, number + 1):
            journals.setdefault(round_number, federation.journal(round_number))
            round_ = Round(
                federation=federation, journal=journals[round_number], base=base, executor=executor, now_s=time.time
            )
            for event in advance(round_):
                idle = False
                log.info("round %d: %s", round_number, event.event)
                yield round_number, event
        if idle:
            settled = max(number - 1, settled)
            journals = {n: journal for n, journal in journals.items() if n > settled}
            stop.wait(settings.poll_s)
