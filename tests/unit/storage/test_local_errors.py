"""What the operating system refuses comes out as a sentence that a person can act on."""

import errno
import os
from pathlib import Path

import pytest

from coldfuse.errors import ObjectNotFoundError, StorageError
from coldfuse.storage import LocalStore
from coldfuse.storage.local_files import storage_error


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "let this user read and write"),
        (errno.EXDEV, "a single one"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "system's log"),
        (errno.ELOOP, os.strerror(errno.ELOOP)),
    ],
)
def test_a_message_says_where_and_what_to_do(number, words):
    ours = storage_error(OSError(number, os.strerror(number)), Path("/store/key"))
    assert type(ours) is StorageError
    assert str(ours).startswith("/store/key: ")
    assert words in str(ours)


def test_a_missing_file_is_a_missing_object():
    ours = storage_error(FileNotFoundError(errno.ENOENT, "No such file"), Path("/store/key"))
    assert type(ours) is ObjectNotFoundError


@pytest.mark.parametrize(
    ("made_before", "umask", "expected"),
    [(None, 0o022, {0o700, 0o600}), (0o2770, 0o007, {0o2770, 0o660}), (0o755, 0o022, {0o755, 0o644})],
)
def test_a_store_is_its_owners_alone_unless_others_were_let_into_its_folder(tmp_path, made_before, umask, expected):
    root, before = tmp_path / "store", os.umask(umask)
    try:
        if made_before is not None:
            root.mkdir()
            root.chmod(made_before)
        store = LocalStore(root)
        store.put_if_absent("objects/a", b"x")
        store.compare_and_swap("rounds/1/head", b"y", etag=store.compare_and_swap("rounds/1/head", b"x", etag=None))
        with store.open_writer("objects/b") as writer:
            writer.write(b"z")
            writer.commit()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o7777 for path in (root, *root.rglob("*"))} == expected
