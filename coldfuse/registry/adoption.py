"""Giving a root to a federation that has none, with all its history.

What is there stays as it is, byte for byte, and is said to be unsigned (`FederationSettings.adopted`). The settings are
the switch: before it nobody notices anything but objects that nobody reads, after it whoever opens the federation holds
everything newer against the root. Channels are signed after that; killed in between, calling it again finishes, and so
does an aggregator with the key.

Who leads at that moment is made to stop: the lease is taken. Older versions read in the settings that they are too
old, newer ones that there is a root now; both go on when they are started again with what they need.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from coldfuse.core.federation import Adopted
from coldfuse.errors import DamagedObjectError, SignatureError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import Lease
from coldfuse.registry.pointers import Pointer
from coldfuse.registry.settings import read_settings, write_settings
from coldfuse.registry.trust import found
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.keys import Signer

log = logging.getLogger(__name__)

_LEASE_S = 30.0
"""Seconds after which others may lead again where an adoption was killed."""


def adopt(store: ObjectStore, keys: FounderKeys, *, wait: Callable[[float], None] = time.sleep) -> Federation:
    """Found a federation of an older layout on keys; called again after any failure, it finishes.

    Args:
        store: The federation's store.
        keys: The keys that it shall be founded on.
        wait: Waits for so many seconds, for who leads at the moment to end what it does.

    Returns:
        The federation, opened with the aggregator's key.

    Raises:
        FederationError: There is no federation, or it has a root of other keys already.
        ConflictError: Somebody else has changed it at this moment: call it again.
    """
    with Lease.taken(store, ttl_s=_LEASE_S, wait=wait):  # who led is to be started again, with the aggregator's key
        settings, etag = read_settings(store)
        fingerprint = found(store, keys, is_begun=settings.root is not None)
        if settings.root is None:
            _switch(Federation(store, settings), fingerprint, etag, keys.operators)
        federation = open_federation(store, signer=keys.signer)
        _sign_channels(federation, keys.aggregator)
    return federation


def _switch(federation: Federation, fingerprint: str, etag: str, operators: Sequence[Signer]) -> None:
    """Write the settings with the root, and with what is older than it."""
    number = federation.current_round()
    is_begun = federation.journal(number).head() is not None
    adopted = Adopted(round=number if is_begun else number - 1, release=federation.channel("latest").newest)
    settings = federation.settings.model_copy(update={"root": fingerprint, "adopted": adopted})
    write_settings(federation.store, settings, etag=etag, signers=operators)


def _sign_channels(federation: Federation, signer: Signer) -> None:
    for name in sorted({"latest", *federation.pointers.names()}):
        before = _unsigned(federation, name)
        if before is not None:
            federation.pointers.write(name, before.channel, before, signer)


def _unsigned(federation: Federation, name: str) -> Pointer | None:
    """Return a channel that nobody has signed yet; None for one that is signed, or that nobody can read."""
    try:
        there = federation.pointers.read(name)
        return there if there.is_damaged else None
    except SignatureError:
        return replace(federation.pointers, trust=None).read(name)
    except DamagedObjectError as error:
        log.warning("%s", error)
        return None
