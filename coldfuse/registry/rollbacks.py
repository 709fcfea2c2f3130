"""Steps back of the channel `latest`, kept beside it: `rollbacks/<00001>.json`, the channel as it was written then.

The channel itself holds the last one, and names the one before it by its SHA-256. What is kept is for the day when the
channel is damaged, and for who looks at the history.
"""

from __future__ import annotations

from collections.abc import Iterator

from coldfuse.core.release import Channel
from coldfuse.core.rollback import Rollback
from coldfuse.core.sealed import unseal
from coldfuse.errors import CodecError, TrustError
from coldfuse.registry.damage import name_damage
from coldfuse.registry.reading import read_again
from coldfuse.registry.signed import check_sealed
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.tensors.rereading import ADVICE
from coldfuse.trust.channel import channel_key, read_channel
from coldfuse.trust.view import TrustView

FOLDER = "rollbacks/"


def rollback_key(number: int) -> str:
    """Return the key under which a step back is kept.

    >>> rollback_key(1)
    'rollbacks/00001.json'
    """
    return f"{FOLDER}{number:05d}.json"


def list_rollbacks(store: ObjectStore) -> Iterator[int]:
    """List the numbers of the steps back that were kept, damaged or not."""
    names = (key.removeprefix(FOLDER).removesuffix(".json") for key in list_keys(store, FOLDER))
    yield from (int(name) for name in names if name.isdecimal())


def read_rollback(store: ObjectStore, trust: TrustView | None, number: int) -> Rollback:
    """Return a step back by what was kept of it.

    Args:
        store: The federation's store.
        trust: Who may have signed it; None where nothing is signed.
        number: Number of the step.

    Raises:
        ObjectNotFoundError: Nothing was kept.
        CodecError: It is damaged.
        TrustError: It is signed by nobody who may, today.
    """
    key = rollback_key(number)

    def read(data: bytes) -> Channel:
        if trust is None:
            return unseal(Channel, data, what=key)
        check_sealed(data, what=key)
        known = trust.refresh()
        return read_channel(data, "latest", root=known.root, federation=known.fingerprint)

    found = read_again(store, key, read)[0].rollback
    if found is None or found.number != number:
        raise CodecError(f"{key}: holds another step back, or none")
    return found


def last_rollback(store: ObjectStore, trust: TrustView | None) -> Rollback | None:
    """Return the last step back by what was kept of it, where the channel itself is lost; None: there was none.

    Raises:
        DamagedObjectError: What was kept of it is damaged, too: else what was rolled back would come back.
    """
    number = max(list_rollbacks(store), default=0)
    try:
        return read_rollback(store, trust, number) if number else None
    except (CodecError, TrustError) as error:
        raise name_damage(store, rollback_key(number), str(error), advice=ADVICE) from error


def keep_rollback(store: ObjectStore, trust: TrustView | None) -> None:
    """Write the last step back to a place of its own, as the channel has it: what is damaged there gives way."""
    data = store.get(channel_key("latest"))
    if trust is None:
        channel = unseal(Channel, data, what=channel_key("latest"))
    else:
        known = trust.known()
        channel = read_channel(data, "latest", root=known.root, federation=known.fingerprint)
    if channel.rollback is None:
        return
    key = rollback_key(channel.rollback.number)
    if store.put_if_absent(key, data):
        return
    try:
        read_rollback(store, trust, channel.rollback.number)
    except (CodecError, TrustError):  # it is damaged, forged, or by keys that were replaced
        store.compare_and_swap(key, data, etag=store.get_with_etag(key)[1])
