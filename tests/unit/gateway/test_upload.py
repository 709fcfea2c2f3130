"""A part exists once its declared length and digest have been seen, and not at all otherwise."""

import pytest

from coldfuse.core.blob import Part
from coldfuse.core.serialization import sha256
from coldfuse.errors import CodecError, DigestMismatchError
from coldfuse.gateway.upload import PartUpload
from coldfuse.storage import MemoryStore

DATA = b"0123456789"
PART = Part(digest=sha256(DATA), size_bytes=len(DATA))
KEY = f"objects/{PART.digest}"


def test_a_whole_part_is_stored():
    store = MemoryStore()
    upload = PartUpload(store, PART)
    upload.write(DATA[:4])
    upload.write(DATA[4:])
    assert upload.finish() == 10
    upload.abort()
    assert store.get(KEY) == DATA


@pytest.mark.parametrize(
    ("chunks", "kind", "sentence"),
    [
        ([DATA[:9]], CodecError, "ended after 9"),
        ([], CodecError, "ended after 0"),
        ([DATA, b"x"], CodecError, "more came"),
        ([DATA[::-1]], DigestMismatchError, "has the file changed"),
    ],
)
def test_anything_else_leaves_nothing(chunks, kind, sentence):
    store = MemoryStore()
    upload = PartUpload(store, PART)
    with pytest.raises(kind, match=sentence):
        _send(upload, chunks)
    upload.abort()
    assert store.head(KEY) is None


def test_two_senders_of_one_part_both_succeed():
    store = MemoryStore()
    uploads = [PartUpload(store, PART), PartUpload(store, PART)]
    assert [_send(upload, [DATA]) for upload in uploads] == [10, 10]


def _send(upload, chunks):
    for chunk in chunks:
        upload.write(chunk)
    return upload.finish()
