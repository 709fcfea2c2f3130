from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import contribute, lead, make_federation, make_model, small_parts

from coldfuse.consumer import StoreSource, fetch, read_fetched
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import CodecError, DigestMismatchError, FederationError, TransportError, UserInputError
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checkpoint import open_checkpoint

__all__ = ["small_parts"]
MODEL = make_model()


@dataclass
class Source:
    """A source that counts what it gives, and fails or lies where it is told to."""

    federation: Federation
    fails_after: int | None = None
    tampered: str | None = None
    changes: dict[str, object] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    given_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        return StoreSource(self.federation).release(which).model_copy(update=self.changes)

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        with self.lock:
            if self.fails_after is not None and len(self.given) >= self.fails_after:
                raise TransportError("injected")
            self.given.append(digest)
            self.given_bytes += len(buffer)
        StoreSource(self.federation).read_into(release, digest, buffer, start)
        if digest == self.tampered:
            buffer[0] ^= 1


@pytest.fixture(scope="module")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Federation]:
    """Make a federation of this seed and number of files, or take the one that was made for another test."""

    @cache
    def make(seed: int, num_files: int) -> Federation:
        return make_federation(tmp_path_factory.mktemp("federation"), make_model(seed), num_files=num_files)

    return make


@pytest.fixture
def federation(make_once: Callable[[int, int], Federation], small_parts: int) -> Federation:
    """Return one that is only read."""
    return make_once(0, 2)


@pytest.fixture
def other(make_once: Callable[[int, int], Federation], small_parts: int) -> Federation:
    """Return another that is only read."""
    return make_once(5, 1)


@pytest.fixture
def changing(tmp_path: Path, small_parts: int) -> Federation:
    """Return one for this test alone."""
    return make_federation(tmp_path, MODEL, num_files=2)


def publish_another(federation: Federation) -> None:
    number = federation.current_round()
    lead(federation, number)
    for name in ("ada", "ben"):
        changes = {"layer.bias": np.full(8, 0.5, np.float32), "scale": np.float32(ord(name[0])).reshape(())}
        contribute(federation, name, changes)
    lead(federation, number)


def size_of(manifest: ReleaseManifest) -> int:
    return sum(blob.size_bytes for blob in manifest.files.values())


def parts_of(manifest: ReleaseManifest) -> dict[str, int]:
    return {part.digest: part.size_bytes for blob in manifest.files.values() for part in blob.parts}


def check_whole(federation: Federation, out: Path, number: int) -> None:
    assert open_checkpoint(out).digest() == federation.release(number).model_digest
    assert read_fetched(out) == federation.release(number)
    files = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert {file for file in files if not file.startswith(".coldfuse")} == set(federation.release(number).files)


def test_a_release_arrives_whole(federation: Federation, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    fetched = fetch(StoreSource(federation), tmp_path / "out", progress=lambda *now: told.append(now))
    check_whole(federation, tmp_path / "out", 0)
    assert (fetched.downloaded_bytes, fetched.reused_bytes) == (size_of(fetched.manifest), 0)
    assert told[-1] == (size_of(fetched.manifest),) * 2


def test_an_interrupted_fetch_goes_on_where_it_was(federation: Federation, tmp_path: Path) -> None:
    broken, whole = Source(federation, fails_after=5), Source(federation)
    with pytest.raises(TransportError, match="injected"):
        fetch(broken, tmp_path / "out")
    assert len(broken.given) == 5
    assert not (tmp_path / "out" / "config.json").exists()
    fetched = fetch(whole, tmp_path / "out")
    assert fetched.downloaded_bytes == whole.given_bytes == size_of(fetched.manifest) - broken.given_bytes
    assert fetched.reused_bytes == broken.given_bytes
    check_whole(federation, tmp_path / "out", 0)


def test_only_what_changed_is_downloaded(changing: Federation, tmp_path: Path) -> None:
    fetch(StoreSource(changing), tmp_path / "out")
    publish_another(changing)
    source = Source(changing)
    fetched = fetch(source, tmp_path / "out")
    old, new = parts_of(changing.release(0)), parts_of(changing.release(1))
    assert set(source.given) == new.keys() - old.keys()
    assert 0 < fetched.downloaded_bytes < size_of(fetched.manifest) / 4
    check_whole(changing, tmp_path / "out", 1)


def test_what_is_there_is_not_fetched_again(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreSource(federation), tmp_path / "out")
    source = Source(federation)
    assert fetch(source, tmp_path / "out").reused_bytes == size_of(federation.latest())
    assert source.given == []


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["deleted", "emptied"])
def test_a_file_that_was_lost_since_is_fetched_again(federation: Federation, tmp_path: Path, damage) -> None:
    fetch(StoreSource(federation), tmp_path / "out")
    damage(tmp_path / "out" / "model-00001-of-00002.safetensors")
    fetched = fetch(StoreSource(federation), tmp_path / "out")
    assert 0 < fetched.downloaded_bytes < size_of(fetched.manifest)
    check_whole(federation, tmp_path / "out", 0)


def test_an_older_release_can_be_had(changing: Federation, tmp_path: Path) -> None:
    publish_another(changing)
    fetch(StoreSource(changing), tmp_path / "out", which="latest")
    fetch(StoreSource(changing), tmp_path / "out", which=0)
    check_whole(changing, tmp_path / "out", 0)
    with pytest.raises(FederationError, match="there is no release 9; the latest is 1"):
        fetch(StoreSource(changing), tmp_path / "out", which=9)


def test_a_tampered_part_puts_nothing_in_place(federation: Federation, tmp_path: Path) -> None:
    part = federation.latest().files["model-00002-of-00002.safetensors"].parts[-1].digest
    with pytest.raises(DigestMismatchError, match=f"part {part[:12]} arrived with SHA-256"):
        fetch(Source(federation, tampered=part), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".coldfuse"]
    fetch(StoreSource(federation), tmp_path / "out")
    check_whole(federation, tmp_path / "out", 0)


def test_a_model_that_is_not_the_manifests_is_not_put_in_place(federation: Federation, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError, match="the model has digest"):
        fetch(Source(federation, changes={"model_digest": "0" * 64}), tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_manifest_that_is_not_the_channels_is_refused(changing: Federation, tmp_path: Path) -> None:
    changing.store.delete("releases/00000.json")
    changing.store.put_if_absent("releases/00000.json", b"{}")
    with pytest.raises(DigestMismatchError):
        fetch(StoreSource(changing), tmp_path / "out")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "..",
        "",
        ".",
        "./x",
        "a//x",
        "a/",
        ".coldfuse/x",
        ".coldfuse",
        "a\\x",
        "a\0x",
        "a\nx",
    ],
)
def test_paths_that_leave_the_folder_are_refused(federation: Federation, tmp_path: Path, path: str) -> None:
    files = federation.latest().files
    with pytest.raises(CodecError, match="is not a path inside a model folder"):
        fetch(Source(federation, changes={"files": {path: files["config.json"]} | files}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["modeling.py", "pytorch_model.bin", "tokenizer", "a/code.so"])
def test_nothing_but_tensors_and_configuration_is_taken(federation: Federation, tmp_path: Path, path: str) -> None:
    files = federation.latest().files
    with pytest.raises(CodecError, match="is neither tensors nor configuration"):
        fetch(Source(federation, changes={"files": {path: files["config.json"]} | files}), tmp_path / "out")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfuse.consumer.download._PIECE_BYTES", 16)
    monkeypatch.setattr("coldfuse.consumer.download._PARALLEL_PARTS", 1)


def test_an_interrupted_part_goes_on_where_it_was(federation: Federation, tmp_path: Path, small_pieces: None) -> None:
    broken, whole = Source(federation, fails_after=14), Source(federation)
    with pytest.raises(TransportError, match="injected"):
        fetch(broken, tmp_path / "out")
    fetched = fetch(whole, tmp_path / "out")
    assert fetched.downloaded_bytes == whole.given_bytes == size_of(fetched.manifest) - broken.given_bytes
    check_whole(federation, tmp_path / "out", 0)


def test_a_part_that_goes_on_wrongly_is_brought_from_its_beginning(
    federation: Federation, tmp_path: Path, small_pieces: None
) -> None:
    broken = Source(federation, fails_after=14)
    with pytest.raises(TransportError, match="injected"):
        fetch(broken, tmp_path / "out")
    for file in (tmp_path / "out" / ".coldfuse" / "incoming").iterdir():
        file.write_bytes(b"\0" * file.stat().st_size)
    fetch(StoreSource(federation), tmp_path / "out")
    check_whole(federation, tmp_path / "out", 0)


@pytest.mark.parametrize("channel", ["../x", "", "Latest", "a/b", "a\nb"])
def test_what_is_no_channel_is_said_before_anything_is_asked(
    federation: Federation, tmp_path: Path, channel: str
) -> None:
    with pytest.raises(UserInputError, match="is no channel's name"):
        fetch(StoreSource(federation), tmp_path / "out", which=channel)
    assert not (tmp_path / "out").exists()


class KilledError(Exception):
    """Stands for a kill."""


def fetch_killed_at(monkeypatch: pytest.MonkeyPatch, source: StoreSource, out: Path, n: int) -> bool:
    """Fetch, but die before the n-th change of a file's place; True if it came that far."""
    done = 0

    def count(real):
        def call(*arguments: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done > n:
                raise KilledError
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", count(os.replace))
        patch.setattr(Path, "unlink", count(Path.unlink))
        try:
            fetch(source, out)
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("n", range(18))
def test_a_swap_that_is_killed_never_looks_whole_and_is_finished(
    federation: Federation, other: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    out = tmp_path / "out"
    fetch(StoreSource(other), out)
    killed = fetch_killed_at(monkeypatch, StoreSource(federation), out, n)
    has_swapped_something = {file.name for file in out.glob("*.safetensors")} != {"model.safetensors"}
    assert not (killed and has_swapped_something and (out / "config.json").exists() and not is_whole(federation, out))
    assert read_fetched(out) in (None, other.latest(), federation.latest())
    fetch(StoreSource(federation), out)
    check_whole(federation, out, 0)


def test_a_fetch_that_is_killed_before_its_mark_goes_on(federation: Federation, tmp_path: Path, monkeypatch) -> None:
    assert fetch_killed_at(monkeypatch, StoreSource(federation), tmp_path / "out", 0)
    fetch(StoreSource(federation), tmp_path / "out")
    check_whole(federation, tmp_path / "out", 0)


def is_whole(federation: Federation, out: Path) -> bool:
    return open_checkpoint(out).digest() == federation.latest().model_digest


def test_an_unfinished_fetch_of_another_model_is_forgotten(
    federation: Federation, other: Federation, tmp_path: Path
) -> None:
    with pytest.raises(TransportError, match="injected"):
        fetch(Source(federation, fails_after=3), tmp_path / "out")
    fetch(StoreSource(other), tmp_path / "out")
    check_whole(other, tmp_path / "out", 0)
