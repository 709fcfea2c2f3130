"""The quarantine in the store, and the history of its changes.

`quarantine.json` holds who is shut out and the last change. Before it is swapped for the next one, that change is
written to `quarantine/<00001>.json`, where it stays, as it is with a federation's settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from pydantic import ValidationError

from coldfuse.core.quarantine import Quarantine, QuarantineChange, change_quarantine
from coldfuse.core.serialization import decode, encode
from coldfuse.errors import (
    CodecError,
    ConflictError,
    FederationError,
    ObjectNotFoundError,
    StorageError,
    UserInputError,
)
from coldfuse.storage.base import ObjectStore

QUARANTINE_KEY = "quarantine.json"


def read_quarantine(store: ObjectStore) -> Quarantine:
    """Say who is shut out.

    Raises:
        StorageError: The store is away, or what it holds cannot be read: nobody is let in for that.
    """
    return _read(store)[0]


def write_quarantine(store: ObjectStore, name: str, *, is_out: bool, reason: str, by: str) -> QuarantineChange | None:
    """Shut a name out, or let it in again.

    Args:
        store: The federation's store.
        name: Id of whom it is about.
        is_out: True to shut the name out, False to let it in again.
        reason: Why, for the one it is about.
        by: Who changes it, for the history.

    Returns:
        The change; None if nothing would change, and nothing is written.

    Raises:
        UserInputError: The reason is too long, or too many names are shut out already.
        FederationError: Somebody else has changed it meanwhile; nothing was written.
    """
    before, etag = _read(store)
    try:
        after = change_quarantine(before, name, is_out=is_out, reason=reason, by=by, now_s=time.time())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserInputError(f"{first['loc'][0]}: {first['msg']}") from error
    if after == before:
        return None
    if before.change:  # its only other place is overwritten below
        store.put_if_absent(_key(before.change.number), encode(before.change))
    try:
        store.compare_and_swap(QUARANTINE_KEY, encode(after), etag=etag)
    except ConflictError as error:
        raise FederationError(
            f"{store.url}: somebody else changed the quarantine meanwhile; look at it, and do it again if it is right"
        ) from error
    return after.change


def list_quarantine_changes(store: ObjectStore) -> Iterator[QuarantineChange]:
    """List the changes, newest first; one that is lost is left out."""
    change = read_quarantine(store).change
    if change is None:
        return
    yield change
    for number in range(change.number - 1, 0, -1):
        try:
            yield decode(QuarantineChange, store.get(_key(number)), what=_key(number))
        except (ObjectNotFoundError, CodecError):
            continue


def _read(store: ObjectStore) -> tuple[Quarantine, str | None]:
    try:
        data, etag = store.get_with_etag(QUARANTINE_KEY)
    except ObjectNotFoundError:
        return Quarantine(), None
    try:
        return decode(Quarantine, data, what=QUARANTINE_KEY), etag
    except CodecError as error:
        raise StorageError(
            f"{store.url}: {error}; restore {QUARANTINE_KEY} from a copy, or move it away and quarantine again"
        ) from error


def _key(number: int) -> str:
    return f"quarantine/{number:05d}.json"
