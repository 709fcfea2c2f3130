"""The aggregator as a service: take the lease, then round after round until stopped.

It holds the lease only while it works: every look and every sign of a task goes to a watchdog, which the lease asks
before each renewal. What goes wrong around it (a store, a network, Ray) is logged, waited for and tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coldfuse.aggregator.aside import Aside, beside
from coldfuse.aggregator.examining import Examiner
from coldfuse.aggregator.led import LedExecutor
from coldfuse.aggregator.model import Base, open_base
from coldfuse.aggregator.release import most_contributions
from coldfuse.aggregator.resigning import take_over_history
from coldfuse.aggregator.round import Round, advance
from coldfuse.aggregator.signing import mend_signatures
from coldfuse.aggregator.watchdog import Watchdog
from coldfuse.core.release import Channel
from coldfuse.core.rollback import Rollback
from coldfuse.core.round import LeaderEvent, Published
from coldfuse.engine.execution import WatchedExecutor
from coldfuse.errors import (
    ColdfuseError,
    ConflictError,
    LeaseLostError,
    MissingExtraError,
    NotAllowedError,
    UserInputError,
)
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.lease import Lease
from coldfuse.registry.published import next_number
from coldfuse.registry.rollbacks import keep_rollback
from coldfuse.registry.round_clock import RoundClock
from coldfuse.registry.settings import keep_copy, mend_settings
from coldfuse.webhooks import Outgoing

log = logging.getLogger(__name__)

_LATE_S = 60.0
"""Seconds for which a round that is over is looked at: a gateway may have found it open a moment before it ended, and
then take its time to store a manifest and to record what came, too late."""

_MOST_LATE = 4
"""Number of rounds that are looked at, however fast they follow each other."""

_LONGEST_PAUSE_S = 60.0
"""Maximum number of seconds before the next try, however often it has failed."""


@dataclass(frozen=True, kw_only=True)
class AggregatorSettings:
    """How an aggregator runs."""

    rounds: int | None = None
    """Number of releases to publish before ending; None: no end."""
    until: int | None = None
    """Number of the release with which the service ends, whoever publishes it; None: no end."""
    poll_s: float = 0.5
    """Seconds between two looks at the store while a round waits and nothing arrives."""
    lease_ttl_s: float = 10.0
    """Seconds after which another aggregator takes over from one that died."""
    outgoing: Outgoing = field(default_factory=Outgoing)
    """How the federation's webhooks are told; without a secret they are not."""
    examiner: Examiner | None = None
    """Scores what was fused on the operator's suites, where the federation has a gate; None: there are none."""


def serve_rounds(
    federation: Federation,
    executor: WatchedExecutor,
    settings: AggregatorSettings,
    *,
    stop: threading.Event,
    announce: Callable[[str], None] = log.info,
    watchdog: Watchdog | None = None,
) -> Iterator[tuple[int, LeaderEvent]]:
    """Lead whenever the lease can be had, until enough is published or somebody stops it.

    A store that is away, a lost lease or a lost worker is logged, waited for and tried again.

    Args:
        federation: The federation whose rounds are led.
        executor: Runs the tasks that screen and fuse.
        settings: How often to look, and when to end.
        stop: Ends the service once set; what a round has appended by then is kept.
        announce: Is told who leads whenever that changes: this process, or another that it waits for.
        watchdog: Is shown every step; None: one of its own.

    Yields:
        The round's number and the event, for every event that was appended to a journal.

    Raises:
        UserInputError: A worker has too little memory for this model, from the start on.
        NotAllowedError: The federation has a root that does not name this aggregator's key (any more).
    """
    federation.require_signer()
    watchdog, trouble, published = watchdog or Watchdog(), _Trouble(stop, settings), 0
    while not stop.is_set():
        lease = Lease(federation.store, ttl_s=settings.lease_ttl_s, moves=watchdog.moves)
        leader = _Leader(federation, LedExecutor(executor, lease, watchdog), lease, watchdog, settings.examiner)
        try:
            if not _acquire(lease, settings, stop=stop, announce=announce, watchdog=watchdog):
                return
            for number, event in leader.lead(settings, stop):
                trouble.is_over()
                yield number, event
                published += isinstance(event, Published)
                if published == settings.rounds:
                    return
            return
        except (LeaseLostError, ConflictError) as error:
            log.warning("%s", error)  # somebody else acted: read everything again
            stop.wait(settings.poll_s)
        except (ColdfuseError, OSError, MemoryError) as error:
            if trouble.is_final(error):
                raise
            trouble.wait_after(error)
        finally:
            watchdog.sign()
            lease.release()


def _acquire(
    lease: Lease,
    settings: AggregatorSettings,
    *,
    stop: threading.Event,
    announce: Callable[[str], None],
    watchdog: Watchdog,
) -> bool:
    """Wait until this process leads; False if it was stopped before."""
    announced: str | None = None  # said once a leader, not at every look
    watchdog.sign()
    while (record := lease.try_acquire()) is not None:
        watchdog.sign()
        if record.holder != announced:
            announced = record.holder
            announce(f"waiting: {announced} leads")
        if stop.wait(min(settings.poll_s, settings.lease_ttl_s / 5)):
            return False
    announce(f"leading as {lease.holder}")
    return True


class _Leader:
    """Leads: advances the current round, and those before it, whose late contributions still get their verdicts."""

    def __init__(
        self, federation: Federation, executor: LedExecutor, lease: Lease, watchdog: Watchdog, examiner: Examiner | None
    ) -> None:
        self._federation, self._executor, self._lease, self._watchdog = federation, executor, lease, watchdog
        self._examiner = examiner
        self._journals: dict[int, Journal] = {}  # kept, because a journal remembers what it has read
        self._clocks: dict[int, RoundClock] = {}  # kept, because a round's age is measured from when it was first seen
        self._most = 0  # how many contributions to a round this machine has the memory for
        self._began: dict[
            int, float
        ] = {}  # when the rounds that are looked at were first seen, by a clock that only runs
        self._ready_for = 0  # the number of the newest round whose rules this machine has the memory for

    def lead(self, settings: AggregatorSettings, stop: threading.Event) -> Iterator[tuple[int, LeaderEvent]]:
        """Advance rounds until stopped, or until the release is out with which the service ends."""
        with beside(self._federation, settings.outgoing) as aside:
            yield from self._lead(settings, stop, aside)

    def _lead(
        self, settings: AggregatorSettings, stop: threading.Event, aside: Aside
    ) -> Iterator[tuple[int, LeaderEvent]]:
        mend_settings(self._federation.store)
        pointer, federation = self._federation.mended_latest(), self._federation.reopened()
        keep_copy(federation.store, federation.settings)
        base = _open_latest(federation, pointer)
        number = federation.current_round()
        settled = max(number - (3 if pointer.rollback else 2), 0)  # rounds up to this one have nothing left to be done
        pause, renew_at_s = _Pause(settings.poll_s), float("-inf")
        while not stop.is_set():
            self._lease.check()
            self._watchdog.sign()
            if federation.now_s() >= renew_at_s:
                federation.renew_channels()
                take_over_history(federation)
                mend_signatures(federation, self._executor)
                renew_at_s = federation.now_s() + federation.pointers.expires_s / 8
            if (now := federation.mended_latest()) != pointer:
                pointer = now
                base = _open_latest(federation, pointer)
            aside.look(pointer)
            if settings.until is not None and pointer.release >= settings.until and _is_over(federation, pointer.round):
                return
            number = federation.current_round(at_least=number)
            self._require_memory(federation, base, number)
            idle = True
            for round_number in range(settled + 1, number + 1):
                for event in advance(self._round(federation, base, round_number, pointer.rollback)):
                    idle = False
                    log.info("round %d: %s", round_number, event.event)
                    aside.tell(event)
                    yield round_number, event
            if not idle:
                pause.reset()
                continue
            settled = self._settle(settled, number)
            stop.wait(pause.next_s())

    def _settle(self, settled: int, number: int) -> int:
        """Return up to which round nothing can come any more, once there is nothing left to be done; forget them."""
        now_s = time.monotonic()
        for one in range(settled + 1, number + 1):
            self._began.setdefault(one, now_s)
        while settled < number - 1:
            oldest = settled + 1  # it had ended when the one after it began
            if oldest > number - _MOST_LATE and now_s - self._began[oldest + 1] < _LATE_S:
                break
            settled = oldest
        self._journals = {n: journal for n, journal in self._journals.items() if n > settled}
        self._clocks = {n: clock for n, clock in self._clocks.items() if n > settled}
        self._began = {n: began_s for n, began_s in self._began.items() if n > settled}
        return settled

    def _round(self, federation: Federation, base: Base, number: int, rollback: Rollback | None) -> Round:
        journal = self._journals.setdefault(number, federation.journal(number))
        return Round(
            federation=federation, journal=journal, base=base, executor=self._executor, most=self._most,
            now_s=time.time,
            clock=self._clocks.setdefault(number, RoundClock()), before=self._journals.get(number - 1),
            rollback=rollback,
            examiner=self._examiner,
        )  # fmt: skip

    def _require_memory(self, federation: Federation, base: Base, number: int) -> None:
        """Before a round is opened: an operator may have set another method, or a gate."""
        if number > self._ready_for:
            now = federation.reopened()
            self._most = most_contributions(now, base, self._executor)
            if self._examiner is not None and now.settings.asks_suites:
                self._examiner.prepare(now, base, self._executor)
            self._ready_for = number


def _open_latest(federation: Federation, pointer: Channel) -> Base:
    """Open the latest release as a base, once a step back to it is kept beside the channel."""
    if pointer.rollback is not None:
        keep_rollback(federation.store, federation.trust)
    number = next_number(federation.store, federation.settings, federation.trust, pointer=pointer)
    return open_base(federation, federation.release_at(pointer), number=number)


def _is_over(federation: Federation, number: int) -> bool:
    """Tell whether a round's release is written down, too; else that is done first."""
    return federation.journal(number).state().published is not None


class _Pause:
    """Seconds until the next look: few while things arrive, more and more while nothing does."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self.reset()

    def reset(self) -> None:
        """Look again soon."""
        self._next_s = self._longest_s / 20

    def next_s(self) -> float:
        """Return how long to wait now."""
        now_s, self._next_s = self._next_s, min(self._next_s * 1.25, self._longest_s)
        return now_s


@dataclass
class _Trouble:
    """What goes wrong again and again: said, and tried again ever more slowly."""

    stop: threading.Event
    settings: AggregatorSettings
    has_led: bool = False
    pause_s: float = 0.0

    def is_over(self) -> None:
        self.has_led, self.pause_s = True, 0.0

    def is_final(self, error: Exception) -> bool:
        """Tell whether trying again is of no use."""
        if isinstance(error, NotAllowedError):  # its key is none of the federation's any more
            return True
        return isinstance(error, UserInputError | MissingExtraError) and not self.has_led

    def wait_after(self, error: Exception) -> None:
        log.warning("trying again: %s", error)
        self.pause_s = min(max(2 * self.pause_s, self.settings.lease_ttl_s / 3), _LONGEST_PAUSE_S)
        self.stop.wait(self.pause_s)
