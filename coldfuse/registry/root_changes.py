"""A change of the root, with what has to be signed once more for it."""

from __future__ import annotations

from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.errors import SignatureError
from coldfuse.registry.proposals import Document, Proposal, arrange
from coldfuse.registry.settings import SETTINGS_KEY, read_settings
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.envelope import Kind
from coldfuse.trust.root import Root
from coldfuse.trust.view import Known, members_key


def change_root(store: ObjectStore, known: Known, after: Root) -> Proposal:
    """Return a change of the root as what is to be signed.

    Where the operators who have signed the list of members or the settings are too few by the new root, these come
    with it, the same as they are.
    """
    documents = [Document.of("root", after)]
    if not _holds(after, _read(store, members_key(known.members.version)), "members"):
        newer = known.members.model_copy(update={"version": known.members.version + 1})
        documents.append(Document.of("members", newer))
    if not _holds(after, _read(store, SETTINGS_KEY), "federation"):
        documents.append(Document.of("federation", read_settings(store)[0]))
    return arrange(documents)


def _read(store: ObjectStore, key: str) -> bytes:
    return store.get(key, length=MAX_MANIFEST_BYTES + 1)


def _holds(root: Root, data: bytes, kind: Kind) -> bool:
    try:
        root.verified(data, kind, "operator", what=kind)
    except SignatureError:
        return False
    return True
