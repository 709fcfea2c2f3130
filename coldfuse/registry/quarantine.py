"""The quarantine in the store: who is shut out, with the last change (`history` has those before)."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pydantic import ValidationError

from coldfuse.core.quarantine import Quarantine, QuarantineChange, change_quarantine
from coldfuse.core.sealed import seal, unseal
from coldfuse.errors import (
    CodecError,
    ConflictError,
    FederationError,
    ObjectNotFoundError,
    StorageError,
    UserInputError,
)
from coldfuse.registry.history import History
from coldfuse.registry.reading import read_again
from coldfuse.storage.base import ObjectStore

QUARANTINE_KEY = "quarantine.json"

QUARANTINE_HISTORY = History(kind=QuarantineChange, document=QUARANTINE_KEY, folder="quarantine")
"""Where the changes of the quarantine lie."""


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
        QUARANTINE_HISTORY.keep(store, before.change)
    try:
        store.compare_and_swap(QUARANTINE_KEY, seal(after), etag=etag)
    except ConflictError as error:
        raise FederationError(
            f"{store.url}: somebody else changed the quarantine meanwhile; look at it, and do it again if it is right"
        ) from error
    return after.change


def list_quarantine_changes(store: ObjectStore) -> Iterator[QuarantineChange]:
    """List the changes, newest first.

    Raises:
        FederationError: One of them is missing, or is not what the history says.
    """
    return QUARANTINE_HISTORY.list(store, read_quarantine(store).change)


def _read(store: ObjectStore) -> tuple[Quarantine, str | None]:
    try:
        return read_again(store, QUARANTINE_KEY, lambda data: unseal(Quarantine, data, what=QUARANTINE_KEY))
    except ObjectNotFoundError:
        return Quarantine(), None
    except CodecError as error:
        raise StorageError(
            f"{store.url}: {error}; restore {QUARANTINE_KEY} from a copy, or move it away and quarantine again"
        ) from error
