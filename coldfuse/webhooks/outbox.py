"""Who tells others: a thread for each address, woken when something may have happened."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set

from coldfuse.errors import ColdfuseError, TransportError
from coldfuse.registry.federation import Federation
from coldfuse.webhooks.events import OVER, Notice
from coldfuse.webhooks.marks import Mark, read_mark, write_mark
from coldfuse.webhooks.pending import begin, pending
from coldfuse.webhooks.posting import explain, is_taken, post
from coldfuse.webhooks.signing import Secrets

log = logging.getLogger(__name__)

_GONE = 410

_QUIET_ROUNDS = 10
"""Number of rounds that told nothing, after which nobody looks through them again."""

_CLOSE_S = 2.0
"""Seconds that what is about to go out is waited for at the end; the threads end by themselves, or with the process."""


class Post(Protocol):
    """Hands a message to an address."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str], *, allows_private: bool) -> int:
        """Return the status of the answer. Raises `TransportError` where there was none."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """How an aggregator tells others."""

    secrets: Secrets | None = None
    """By what messages are signed; None: nothing is told, as nobody could believe it."""
    allows_private: bool = False
    """Whether addresses may be in private networks, or this machine's."""
    first_pause_s: float = 1.0
    """Seconds before the second try; before each one after it twice as long, and a little by chance."""
    longest_pause_s: float = 300.0
    give_up_s: float = 86400.0
    """Seconds of trying after which a message is given up, for those after it."""
    post: Post = post
    """Hands a message over."""
    now_s: Callable[[], float] = time.time
    """The clock, in seconds since 1970."""


class Outbox:
    """Tells the addresses of a federation's settings; nothing of it ever waits."""

    def __init__(self, federation: Federation, outgoing: Outgoing) -> None:
        self._federation, self._outgoing = federation, outgoing
        self._threads: dict[str, _Teller] = {}
        self._has_warned = False

    def wake(self) -> None:
        """Look for what there is to tell, soon and elsewhere."""
        urls = self._federation.settings.webhooks or ()
        if urls and self._outgoing.secrets is None:
            self._warn()
            return
        for url in urls:
            if url not in self._threads:
                self._threads[url] = _Teller(self._federation, url, self._outgoing)
        for url in [known for known in self._threads if known not in urls]:
            self._threads.pop(url).end()
        for teller in self._threads.values():
            teller.wake(self._federation)

    def renew(self, federation: Federation) -> None:
        """Take up changed settings, and look."""
        self._federation = federation
        self.wake()

    def close(self, *, waits: bool = True) -> None:
        """End; what was not told yet is told by who leads next.

        Args:
            waits: Whether what is about to go out is waited for, for a moment.
        """
        until_s = time.monotonic() + (_CLOSE_S if waits else 0.0)
        for teller in self._threads.values():
            teller.quiet.wait(max(until_s - time.monotonic(), 0.0))
        for teller in self._threads.values():
            teller.end()

    def _warn(self) -> None:
        if not self._has_warned:
            log.error(
                "the federation has webhooks, and nothing is told: this aggregator has no secret to sign by; give it "
                "--webhook-secret FILE, or the variable COLDFUSE_WEBHOOK_SECRET"
            )
        self._has_warned = True


@contextmanager
def open_outbox(federation: Federation, outgoing: Outgoing) -> Iterator[Outbox]:
    """Yield what tells others for as long as the block lasts."""
    outbox, waits = Outbox(federation, outgoing), True
    try:
        yield outbox
    except Exception:
        waits = False  # somebody else leads, say, and tells it
        raise
    finally:
        outbox.close(waits=waits)


class _Teller:
    """Tells one address, in a thread of its own."""

    def __init__(self, federation: Federation, url: str, outgoing: Outgoing) -> None:
        self._federation, self._url, self._outgoing = federation, url, outgoing
        self._who = urlsplit(url).hostname or ""  # of an address no more is logged: its path may be a secret
        self._stop, self._woken = threading.Event(), threading.Event()
        self.quiet = threading.Event()  # nothing is to be told, or it does not get through
        self.quiet.set()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def wake(self, federation: Federation) -> None:
        self._federation = federation
        self.quiet.clear()
        self._woken.set()

    def end(self) -> None:
        self._stop.set()
        self._woken.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._woken.is_set():
                self.quiet.set()
            self._woken.wait()
            self._woken.clear()
            pause_s = self._outgoing.first_pause_s
            while not self._stop.is_set():
                try:
                    self._tell_all()
                    break
                except (ColdfuseError, OSError) as error:  # the store is away, say: a thread that ends tells nobody
                    log.warning("webhook %s: trying again: %s", self._who, error)
                    self.quiet.set()
                    self._stop.wait(pause_s)
                    pause_s = min(2 * pause_s, self._outgoing.longest_pause_s)

    def _tell_all(self) -> None:
        mark, _ = read_mark(self._federation.store, self._url)
        if mark is None:
            mark = begin(self._federation, self._url)
            write_mark(self._federation.store, self._url, mark)
        for notice in pending(self._federation, mark):
            if not self._tell(notice):
                return  # it is stopped
            mark = self._write(mark.after(notice))
        settled = self._federation.current_round() - 2  # the round before may have yet to say what it has made
        if settled > mark.round + _QUIET_ROUNDS:
            self._write(mark.model_copy(update={"round": settled, "step": OVER}))

    def _write(self, mark: Mark) -> Mark:
        write_mark(self._federation.store, self._url, mark)
        return mark

    def _tell(self, notice: Notice) -> bool:
        """Tell something, or give it up; False if this was stopped before."""
        outgoing = self._outgoing
        tries = Retrying(
            wait=wait_exponential(multiplier=outgoing.first_pause_s, max=outgoing.longest_pause_s)
            + wait_random(0, outgoing.first_pause_s),
            stop=stop_after_delay(outgoing.give_up_s) | stop_when_event_set(self._stop),
            retry=retry_if_exception_type(TransportError),
            sleep=sleep_using_event(self._stop),
        )
        try:
            tries(self._send, notice)
        except RetryError as error:
            if self._stop.is_set():
                return False
            log.error("webhook %s: %s is given up: %s", self._who, notice.id, error.last_attempt.exception())
        return True

    def _send(self, notice: Notice) -> None:
        secrets, body = self._outgoing.secrets, notice.body()
        if secrets is None or self._stop.is_set():
            raise TransportError("it was stopped")
        headers = {"content-type": "application/cloudevents+json; charset=utf-8", "user-agent": "coldfuse"}
        headers |= secrets.headers(notice.id, body, now_s=self._outgoing.now_s())
        self.quiet.clear()
        try:
            self._post(notice, body, headers)
        except TransportError:
            self.quiet.set()
            raise

    def _post(self, notice: Notice, body: bytes, headers: Mapping[str, str]) -> None:
        status = self._outgoing.post(self._url, body, headers, allows_private=self._outgoing.allows_private)
        if status == _GONE:
            log.error("webhook %s: answered 410, it wants no more; remove it with coldfuse set", self._who)
            return
        if not is_taken(status):
            log.warning("webhook %s: %s; %s is sent again", self._who, explain(status), notice.id)
            raise TransportError(explain(status))
