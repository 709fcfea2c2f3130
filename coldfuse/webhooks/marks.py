"""How far an address was told, kept in the store: `webhooks/<of its SHA-256>.json`."""

from __future__ import annotations

from coldfuse.core.contribution import Count
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import sha256
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, ConflictError, ObjectNotFoundError
from coldfuse.storage.base import ObjectStore
from coldfuse.webhooks.events import Notice

FOLDER = "webhooks/"


class Mark(Value):
    """All up to here was told, or given up."""

    round: Count = 0
    """Number of the round up to which it was."""
    step: Count = 0
    """Place in that round."""
    rollback: Count = 0
    """Number of the last step back that was told."""

    def after(self, notice: Notice) -> Mark:
        """Return the mark once this was told, too."""
        if notice.rollback:
            return self.model_copy(update={"rollback": max(self.rollback, notice.rollback)})
        round_, step = max((self.round, self.step), (notice.round, notice.step))
        return self.model_copy(update={"round": round_, "step": step})

    def covers(self, notice: Notice) -> bool:
        """Tell whether something was told already."""
        if notice.rollback:
            return notice.rollback <= self.rollback
        return (notice.round, notice.step) <= (self.round, self.step)


def mark_key(url: str) -> str:
    """Return the key of an address's mark."""
    return f"{FOLDER}{sha256(url.encode())[:32]}.json"


def read_mark(store: ObjectStore, url: str) -> tuple[Mark | None, str | None]:
    """Return how far an address was told, and the etag; None where nothing says so."""
    key = mark_key(url)
    try:
        data, etag = store.get_with_etag(key)
    except ObjectNotFoundError:
        return None, None
    try:
        return unseal(Mark, data, what=key), etag
    except CodecError:  # it is damaged: it begins anew
        return None, etag


def write_mark(store: ObjectStore, url: str, mark: Mark) -> None:
    """Write how far an address was told; where another leader has told more meanwhile, that stays."""
    there, etag = read_mark(store, url)
    if there == mark:
        return
    try:
        store.compare_and_swap(mark_key(url), seal(mark), etag=etag)
    except ConflictError:
        return  # another leader tells the same: something is told twice
