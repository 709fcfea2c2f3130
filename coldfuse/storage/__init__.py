"""An object store as a Protocol, on a local folder, on S3 and in memory.

`open_store` turns a folder or an `s3://bucket/prefix` into a store; a store's `url` opens the same one again in another
process, and a store can be sent to a Ray task as it is (only the url and the settings travel). What it opens is
patient: see `patient`, which all that fails in passing ends in. What a store leaves to
its caller: large objects are named by their content, since on some S3 servers two writers of one key that both need
several parts can both succeed; with the same bytes under the same key that changes nothing.

boto3 is imported when the first `s3://` is opened, not before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.errors import UserInputError
from coldfuse.storage.base import ObjectInfo, ObjectStore, ObjectWriter, Page, collect_garbage
from coldfuse.storage.local import LocalStore
from coldfuse.storage.memory import MemoryStore
from coldfuse.storage.patient import PatientStore, wait_for
from coldfuse.storage.probe import check_store, ensure_suitable

if TYPE_CHECKING:
    from coldfuse.storage.s3_settings import S3Settings

__all__ = [
    "LocalStore",
    "MemoryStore",
    "ObjectInfo",
    "ObjectStore",
    "ObjectWriter",
    "Page",
    "PatientStore",
    "check_store",
    "collect_garbage",
    "ensure_suitable",
    "open_store",
    "wait_for",
]


def open_store(url: str, *, s3: S3Settings | None = None) -> PatientStore:
    """Return the store at a folder or at `s3://bucket/prefix`; nothing is created, and no server is asked yet.

    Args:
        url: Where the store is, or will be.
        s3: How to reach an S3 server; what it leaves open boto3 takes from the AWS_* variables and profiles.

    Raises:
        UserInputError: No store can be there.
    """
    scheme, separator, _ = url.partition("://")
    if not url or (separator and scheme != "s3"):
        raise UserInputError(f"store {url!r}: expected a folder or s3://BUCKET/PREFIX")
    if not separator:
        _refuse_file(Path(url))
        return PatientStore(LocalStore(url))
    from coldfuse.storage.s3 import S3Store

    return PatientStore(S3Store(url, settings=s3))


def _refuse_file(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if os.path.exists(path) and not os.path.isdir(path):  # of what may not be looked at, the first use says more
            raise UserInputError(f"{folder}: expected a folder for the store, but {path} is a file")
