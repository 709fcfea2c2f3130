"""The connection that short calls go over, and a new one where it leads nowhere.

A peer that vanished without a word, behind a router that forgot the connection or a cable that was pulled, takes what
is sent and answers nothing. TCP and gRPC's pings notice that after minutes; a call that had half a minute is sooner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import grpc

Answer = TypeVar("Answer")
Call = Callable[[grpc.Channel], Answer]


class Line:
    """Makes calls over a channel that is replaced after a call without an answer. Threads may share it."""

    def __init__(self, open_channel: Callable[[], grpc.Channel]) -> None:
        self._open_channel = open_channel
        self._channels = [open_channel()]
        self._lock = threading.Lock()

    def call(self, call: Call[Answer]) -> Answer:
        """Make a call over the newest channel.

        Raises:
            grpc.RpcError: What the call raises.
        """
        channel = self._channels[-1]
        try:
            return call(channel)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._replace(channel)
            raise

    def close(self) -> None:
        """End all connections; calls in other threads fail."""
        with self._lock:
            for channel in self._channels:
                channel.close()

    def _replace(self, channel: grpc.Channel) -> None:
        with self._lock:
            if channel is not self._channels[-1]:  # another thread was faster
                return
            for old in self._channels[:-1]:  # by now no call has been on its way for so long
                old.close()
            self._channels = [channel, self._open_channel()]
