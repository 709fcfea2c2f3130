"""Who is a member, as it stands in the store, read again when somebody asks.

The root and the list of members are two small reads at a time, however many calls there are, and one listing tells who
has a newer key; so a revocation, an enrolment or a new key counts within seconds, and who only reads the status costs
the store nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from coldfuse.errors import ColdfuseError, TransportError
from coldfuse.trust.view import Known, TrustView

logger = logging.getLogger(__name__)

REFRESH_S = 2.0
"""Age at which the root and the list of members are read again."""

KEYS_S = 5.0
"""Age at which members' keys are counted again."""

STALE_S = 60.0
"""How long a gateway goes on with what it knows while the store cannot be read."""

ADOPTED_S = 30.0
"""Age at which it is looked again whether a federation without a root has one."""

_WAIT_S = 5.0
"""Seconds that a call waits for the store to be read."""


class Roll:
    """The root, the members, and how many keys each has had. One event loop uses it; a thread reads the store."""

    def __init__(
        self,
        view: TrustView | None,
        *,
        count_keys: Callable[[], Counter[str]] = Counter,
        find_view: Callable[[], TrustView | None] = lambda: None,
        now_s: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what the store says.

        Args:
            view: What signed things are verified by; None where the federation has no root.
            count_keys: Counts members' keys, by their folders; it lists the store.
            find_view: Looks whether a federation without a root has one by now; it reads the store.
            now_s: Tells the time in seconds since 1970.
            clock: Tells seconds.
        """
        self.view = view
        self.now_s = now_s
        self.is_adopted = False
        """True once a federation that had no root has one."""
        self._count_keys, self._find_view, self._clock = count_keys, find_view, clock
        self._threads = ThreadPoolExecutor(1, "gateway-roll")
        self._reading: asyncio.Task[None] | None = None
        self._trouble = "its store does not answer"
        self._known = None if view is None else view.refresh()
        self._num_keys: Mapping[str, int] = {} if view is None else count_keys()
        self._read_s = self._good_s = self._counted_s = clock()

    @property
    def has_members(self) -> bool:
        """True where the federation has a root, and so strangers are told from members."""
        return self._known is not None

    @property
    def is_open(self) -> bool:
        """True where the federation's root lets anybody read, and any key contribute."""
        return self._known is not None and self._known.root.is_open

    @property
    def known(self) -> Known | None:
        """The root and the members, as they were read last."""
        return self._known

    def has_root(self, version: int) -> bool:
        """Tell whether there is a version of the root, without a look into the store."""
        return self._known is not None and 1 <= version <= self._known.root.version

    def num_keys(self, folder: str) -> int:
        """Return how many keys lie in a folder, as they were counted last."""
        return self._num_keys.get(folder, 0)

    async def current(self) -> Known | None:
        """Return the root and the members, as they were at most a moment ago; None where there is no root.

        Raises:
            TransportError: The store has said nothing for too long.
        """
        if self._known is None:  # what works without a root waits for nothing
            if self._clock() - self._read_s > ADOPTED_S:
                self._begin_reading()
        elif self._clock() - self._read_s > REFRESH_S:
            await self._wait(self._begin_reading())
        return self._known

    async def read_again(self) -> None:
        """Wait for what is read from now on; raises as `current`."""
        if self._reading is not None and not self._reading.done():  # it may have begun too early
            await self._wait(self._reading)
        await self._wait(self._begin_reading())

    def close(self) -> None:
        """End the thread."""
        self._threads.shutdown(cancel_futures=True)

    async def _wait(self, reading: asyncio.Task[None]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                await asyncio.shield(reading)
        if self._clock() - self._good_s > STALE_S:
            raise TransportError(f"the gateway cannot find out who is a member: {self._trouble}; try again")

    def _begin_reading(self) -> asyncio.Task[None]:
        """Read once for all who ask at the same time."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        try:
            self._known = await asyncio.get_running_loop().run_in_executor(self._threads, self._look)
            self._good_s = self._clock()
        except ColdfuseError as error:
            self._trouble = str(error)
            logger.warning("the members are as they were %.0f s ago: %s", self._clock() - self._good_s, error)
        finally:
            self._read_s = self._clock()

    def _look(self) -> Known | None:
        if self.view is None:
            if not self.is_adopted and self._find_view() is not None:
                self.is_adopted = True
                logger.error("the federation has a root by now, which this gateway has begun without; start it anew")
            return None
        known = self.view.refresh()
        if self._clock() - self._counted_s > KEYS_S:
            self._num_keys = self._count_keys()
            self._counted_s = self._clock()
        return known
