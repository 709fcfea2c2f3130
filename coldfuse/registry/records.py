"""Small records that are named by their own bytes, and signed by the aggregator where there is a root.

One that is damaged or forged counts for nothing. Records are only added to a folder, so that whoever reads all of them
knows what any of them says.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, V, decode, encode, sha256
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, NotAllowedError, SignatureError
from coldfuse.registry.federation import Federation
from coldfuse.registry.signed import check_sealed, write_signed
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.trust.envelope import Kind, verified

MAX_RECORDS = 10_000
"""Number of records of a folder that are read: whoever can write to the store can put any number there."""


def record_key(folder: str, record: Value) -> str:
    """Return the key of a record."""
    return f"{folder}{sha256(encode(record))}.json"


def record_keys(store: ObjectStore, folder: str) -> Iterator[str]:
    """List the keys of a folder's records."""
    return islice(list_keys(store, folder), MAX_RECORDS)


def put_record(federation: Federation, folder: str, kind: Kind, record: Value) -> None:
    """Write a record; writing the same again is success.

    Raises:
        NotAllowedError: There is a root, and no aggregator's key.
    """
    if federation.trust is None:
        data = seal(record)
    elif federation.signer is None:
        raise NotAllowedError(f"{folder}: is signed by the aggregator's key, and none was given")
    else:
        data = write_signed(encode(record), kind, [federation.signer.aggregator])
    federation.store.put_if_absent(record_key(folder, record), data)


def read_record(federation: Federation, key: str, kind: Kind, of: type[V]) -> V:
    """Read a record, verified.

    Args:
        federation: Whose it is.
        key: Where it lies.
        kind: What is signed.
        of: Class of the record, which has a field `federation`.

    Raises:
        CodecError: It is damaged.
        TrustError: It is signed by nobody who may, or of another federation.
    """
    data = federation.store.get(key, length=MAX_MANIFEST_BYTES + 1)
    if federation.trust is None:
        record = unseal(of, data, what=key)
    else:
        check_sealed(data, what=key)
        federation.trust.known()  # reads the roots
        keys = federation.trust.all_keys("aggregator")
        record = decode(of, verified(data, kind, keys, what=key), what=key)
    require_named(record, key, federation.settings.federation)
    return record


def require_named(record: Value, key: str, federation: str) -> None:
    """Raise `CodecError` or `SignatureError` for a record that lies under another's name, or is of others."""
    if getattr(record, "federation", None) != federation:
        raise SignatureError(f"{key}: is of another federation")
    if key != record_key(f"{key.rpartition('/')[0]}/", record):
        raise CodecError(f"{key}: is not what it is named by")
