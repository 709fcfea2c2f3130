"""An aggregator that strikes itself with a signal before or after its n-th write to the store.

    python aggregator_process.py STORE LEASE_S LOG [SIGNAL MOMENT NUMBER]

Every write but the lease's is a line in LOG. The store's class is wrapped here: the product has no hook. It never
strikes in the middle of a write of the lease, which another thread makes: a process stopped there keeps the key's lock
(see `coldfuse.storage.local`), and nobody could take over.
"""

import logging
import os
import signal
import sys
import threading

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.processes import stop_on_signals
from coldfuse.registry.federation import open_federation
from coldfuse.registry.lease import KEY
from coldfuse.storage import LocalStore


class Striker:
    """Counts the writes, and strikes at the chosen one."""

    def __init__(self, log: str, signal_name: str = "", moment: str = "", number: str = "-1") -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._signal = signal.Signals[signal_name] if signal_name else None
        self._moment = moment
        self._number = int(number)
        self._done = 0
        self._lock = threading.Lock()
        self._renewing = threading.Lock()

    def wrap(self, name: str) -> None:
        write = getattr(LocalStore, name)

        def striking(store: LocalStore, key: str, *args: object, **options: object) -> object:
            if key == KEY:
                with self._renewing:
                    return write(store, key, *args, **options)
            with self._lock:
                number, self._done = self._done, self._done + 1
            os.write(self._log, f"{key}\n".encode())
            self._strike("before", number)
            result = write(store, key, *args, **options)
            self._strike("after", number)
            return result

        setattr(LocalStore, name, striking)

    def _strike(self, moment: str, number: int) -> None:
        if self._signal is not None and (moment, number) == (self._moment, self._number):
            os.write(self._log, f"struck {moment} {number}\n".encode())
            with self._renewing:
                os.kill(os.getpid(), self._signal)


def main(url: str, lease_s: str, log: str, *strike: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    striker = Striker(log, *strike)
    for name in ("put_if_absent", "compare_and_swap"):
        striker.wrap(name)
    stop = stop_on_signals()
    settings = AggregatorSettings(poll_s=0.02, lease_ttl_s=float(lease_s))
    events = serve_rounds(open_federation(LocalStore(url)), ThreadExecutor(1), settings, stop=stop, announce=announce)
    for number, event in events:
        print(number, event.event, flush=True)


def announce(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
