"""An aggregator whose key the root names no longer."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from rooted import TrustedFederation

from coldfuse.cli.leading import end_once_replaced
from coldfuse.registry.proposals import publish
from coldfuse.registry.root_changes import change_root
from coldfuse.storage import MemoryStore
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.root_changes import with_other_key


def test_an_aggregator_ends_once_another_key_has_taken_the_place_of_its_own() -> None:
    held = TrustedFederation(MemoryStore())
    federation = replace(held.federation, signer=held.keys.signer)
    assert federation.trust is not None
    looks, require = threading.Semaphore(0), type(federation).require_signer

    class Watched(type(federation)):  # type: ignore[misc]
        def require_signer(self) -> None:
            looks.release()
            require(self)

    stop = threading.Event()
    watched = Watched(federation.store, federation.settings, signer=federation.signer)
    replaced = end_once_replaced(watched, stop, poll_s=0.001)
    for _ in range(3):
        assert looks.acquire(timeout=60)
    assert not replaced.is_set()
    known = federation.trust.refresh()
    after = with_other_key(known.root, held.keys.aggregator.public.id, PrivateKey.generate().public, now_s=time.time())
    publish(federation.store, change_root(federation.store, known, after).signed(held.keys.operators), known)
    assert replaced.wait(60)
    assert stop.wait(60)
