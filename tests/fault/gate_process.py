"""An aggregator with a gate that kills itself, as by the system, right after its first write of a kind of entry.

python gate_process.py STORE [EVENT]
"""

import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gated import examiner

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore


def strike_after(event: str) -> None:
    """Have this process killed once the first such entry is in the store."""
    write = LocalStore.put_if_absent

    def striking(store: LocalStore, key: str, data: bytes) -> bool:
        done = write(store, key, data)
        if key.endswith(f"-{event}"):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    LocalStore.put_if_absent = striking  # type: ignore[method-assign]


def main(url: str, *events: str) -> None:
    for event in events:
        strike_after(event)
    settings = AggregatorSettings(poll_s=0.02, lease_ttl_s=1.0, examiner=examiner(), until=1)
    for number, event in serve_rounds(
        open_federation(LocalStore(url)), ThreadExecutor(1), settings, stop=threading.Event()
    ):
        print(number, event.event, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
