from __future__ import annotations

import random

import pytest

from coldfuse.core.blob import Blob
from coldfuse.errors import CodecError, DamagedObjectError, StorageError
from coldfuse.storage import MemoryStore
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.checks import PIECE_BYTES, Checks, checks_key, checks_of, join_lists, make_list
from coldfuse.tensors.verified import VerifiedReader

SIZES = [5, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 40 * PIECE_BYTES + 77, 1]


class Counting(MemoryStore):
    """Counts what is read of objects."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        super().read_into(key, buffer, start=start)
        self.num_bytes += len(buffer)

    def damage(self, key: str, data: bytes | None) -> None:
        if data is None:
            del self._objects[key]
        else:
            self._objects[key] = data


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfuse.tensors.rereading._PAUSE_S", 0.0)


@pytest.fixture
def stored() -> tuple[Counting, Blob, Checks | None, bytes]:
    """A file in parts of many sizes, its checks, and its bytes."""
    store = Counting()
    store.put_if_absent("federation.json", b"{}")
    parts = [random.Random(size).randbytes(size) for size in SIZES]
    blob = Blob(parts=tuple(put_part(data, lambda d, b: store.put_if_absent(f"objects/{d}", b)) for data in parts))
    root, data = join_lists([make_list(part) for part in parts]) or ("", b"")
    store.put_if_absent(checks_key(root), data)
    return store, blob, checks_of(blob, root), b"".join(parts)


@pytest.mark.parametrize("has_checks", [True, False])
@pytest.mark.parametrize("seed", range(30))
def test_every_range_is_what_was_stored(stored, has_checks: bool, seed: int) -> None:
    store, blob, checks, whole = stored
    rng = random.Random(seed)
    reader = VerifiedReader(store, blob, checks if has_checks else None)
    for _ in range(10):
        start = rng.randrange(len(whole) + 1)
        length = rng.choice([0, 1, 300, PIECE_BYTES, 5 * PIECE_BYTES, 30 * PIECE_BYTES]) + rng.randrange(3)
        length = min(length, len(whole) - start)
        assert reader.read(start, length) == whole[start : start + length]
        first, end = reader.span(start, length)
        assert first <= start <= start + length <= end <= len(whole)
    with pytest.raises(CodecError, match="outside a file"):
        reader.read(len(whole), 1)


def test_a_flipped_bit_is_seen_in_exactly_what_is_read(stored) -> None:
    """No byte is handed out of a piece that is damaged, and what lies beside it is still read."""
    store, blob, checks, whole = stored
    start = sum(SIZES[:4])  # of the large part
    key = f"objects/{blob.parts[4].digest}"
    data = bytearray(store.get(key))
    data[7 * PIECE_BYTES + 3] ^= 16
    store.damage(key, bytes(data))
    reader = VerifiedReader(store, blob, checks, what="the base")
    assert reader.read(start, 7 * PIECE_BYTES) == whole[start : start + 7 * PIECE_BYTES]
    for at in (7 * PIECE_BYTES, 7 * PIECE_BYTES + 3, 8 * PIECE_BYTES - 1):
        with pytest.raises(DamagedObjectError, match=r"\(the base\) is damaged: its bytes are not those") as caught:
            reader.read(start + at, 1)
        assert caught.value.key == key
    assert reader.read(start + 8 * PIECE_BYTES, 10) == whole[start + 8 * PIECE_BYTES :][:10]


@pytest.mark.parametrize(("damaged", "why"), [(b"", "cut to 0 bytes"), (b"ab", "cut to 2 bytes"), (None, "is missing")])
def test_what_is_wrong_is_said(stored, damaged: bytes | None, why: str) -> None:
    store, blob, checks, _ = stored
    store.damage(f"objects/{blob.parts[3].digest}", damaged)
    with pytest.raises(DamagedObjectError, match=why):
        VerifiedReader(store, blob, checks).read(sum(SIZES[:3]), 10)


def test_a_store_of_which_all_is_missing_is_away_not_damaged(stored) -> None:
    store, blob, checks, _ = stored
    store._objects.clear()
    with pytest.raises(StorageError) as caught:
        VerifiedReader(store, blob, checks).read(0, 5)
    assert not isinstance(caught.value, DamagedObjectError)


def test_reading_in_order_reads_each_byte_about_once(stored) -> None:
    store, blob, checks, whole = stored
    reader = VerifiedReader(store, blob, checks)
    assert b"".join(
        reader.read(at, min(PIECE_BYTES * 4, len(whole) - at)) for at in range(0, len(whole), PIECE_BYTES * 4)
    )
    assert store.num_bytes < 1.4 * len(whole)  # a piece at the edges of each range, where parts are not of whole pieces
