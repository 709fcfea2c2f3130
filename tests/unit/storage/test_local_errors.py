"""What the operating system refuses comes out as a sentence that a person can act on."""

import errno
import os
from pathlib import Path

import pytest

from coldfuse.errors import ObjectNotFoundError, StorageError
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
