"""A channel that follows its certificates: gRPC reads those of a client once, so a new channel takes over from the old.

Calls that run stay where they began, until they end; the old channel is closed after the last of them. So a node's
certificate can be renewed in the middle of an upload.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from coldfuse.trust.following import Followed
from coldfuse.trust.tls import TlsBytes


class _Lent:
    """A channel, and how many calls it carries."""

    def __init__(self, channel: grpc.Channel, made_of: TlsBytes) -> None:
        self.channel, self.made_of = channel, made_of
        self.num_calls = 0


class RenewingChannel(grpc.Channel):
    """Makes each call over a channel with the newest certificates. Threads may share it."""

    def __init__(self, followed: Followed, open_channel: Callable[[TlsBytes], grpc.Channel]) -> None:
        """Open the first channel.

        Args:
            followed: The certificates.
            open_channel: Opens a channel with them.
        """
        self._followed, self._open_channel = followed, open_channel
        self._lock = threading.Lock()
        made_of = followed.newest()
        self._newest = _Lent(open_channel(made_of), made_of)
        self._old: set[_Lent] = set()

    def unary_unary(self, *given: Any, **options: Any) -> Any:
        """Return a method that takes a message and returns one."""
        return _Method(self, "unary_unary", given, options)

    def unary_stream(self, *given: Any, **options: Any) -> Any:
        """Return a method that takes a message and returns many."""
        return _Method(self, "unary_stream", given, options)

    def stream_unary(self, *given: Any, **options: Any) -> Any:
        """Return a method that takes many messages and returns one."""
        return _Method(self, "stream_unary", given, options)

    def stream_stream(self, *given: Any, **options: Any) -> Any:
        """Return a method that takes many messages and returns many."""
        return _Method(self, "stream_stream", given, options)

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Tell how the newest channel is, as of now."""
        self._newest.channel.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        """Tell no more."""
        self._newest.channel.unsubscribe(callback)

    def close(self) -> None:
        """End all connections; calls that run fail."""
        with self._lock:
            for lent in (self._newest, *self._old):
                lent.channel.close()
            self._old.clear()

    def __enter__(self) -> RenewingChannel:
        """Return the channel itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def borrow(self) -> _Lent:
        """Return the channel for one more call; it has to be given back after it."""
        made_of = self._followed.newest()
        with self._lock:
            if made_of is not self._newest.made_of:
                self._retire(self._newest)
                self._newest = _Lent(self._open_channel(made_of), made_of)
            self._newest.num_calls += 1
            return self._newest

    def give_back(self, lent: _Lent) -> None:
        """Say that the call has ended."""
        with self._lock:
            lent.num_calls -= 1
            if lent is not self._newest and lent.num_calls == 0 and lent in self._old:
                self._old.discard(lent)
                lent.channel.close()

    def _retire(self, lent: _Lent) -> None:
        if lent.num_calls:
            self._old.add(lent)
        else:
            lent.channel.close()


class _Method:
    """A method of the gateway, over whichever channel is the newest."""

    def __init__(self, owner: RenewingChannel, kind: str, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._owner, self._kind, self._given, self._options = owner, kind, given, options

    def __call__(self, *given: Any, **options: Any) -> Any:
        """Call; an answer that is a stream keeps the channel until its end."""
        lent = self._owner.borrow()
        is_over = True
        try:
            answer = self._over(lent)(*given, **options)
            if self._kind.endswith("_stream"):
                is_over = not answer.add_callback(lambda: self._owner.give_back(lent))
            return answer
        finally:
            if is_over:
                self._owner.give_back(lent)

    def future(self, *given: Any, **options: Any) -> Any:
        """Start a call."""
        lent = self._owner.borrow()
        try:
            call = self._over(lent).future(*given, **options)
        except BaseException:
            self._owner.give_back(lent)
            raise
        call.add_done_callback(lambda _: self._owner.give_back(lent))
        return call

    def _over(self, lent: _Lent) -> Any:
        return getattr(lent.channel, self._kind)(*self._given, **self._options)
