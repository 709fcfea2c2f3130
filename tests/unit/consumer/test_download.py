"""What a fetch brings, what it refuses, and what a kill leaves."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest
from fetching import Source, check_whole, parts_of, size_of
from tiny_rounds import make_federation, make_model, write_model

from coldfuse.consumer import fetch, read_fetched
from coldfuse.consumer.download import Pace
from coldfuse.errors import (
    CodecError,
    DamagedObjectError,
    DigestMismatchError,
    FederationError,
    TransportError,
    UserInputError,
)
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.tensors.checkpoint import open_checkpoint

TOKENIZER = ("tekken.json", "qwen.tiktoken", "source.spm", "bpe.codes", "additional_chat_templates/tools.jinja")
SMALL = Pace(parallel=1, piece_bytes=16)


def test_a_release_arrives_whole(federation: Federation, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    fetched = fetch(StoreGateway(federation), tmp_path / "out", progress=lambda *now: progress.append(now))
    check_whole(federation, tmp_path / "out")
    assert (fetched.downloaded_bytes, fetched.reused_bytes) == (size_of(fetched.manifest), 0)
    assert progress[-1] == (size_of(fetched.manifest),) * 2


def test_every_file_of_a_model_arrives_and_nothing_private(tmp_path: Path, small_parts: int) -> None:
    base = write_model(tmp_path / "base", make_model())
    for name in (*TOKENIZER, "notes.txt", "modeling.py", "data/vocab.txt"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(name)
    store = LocalStore(tmp_path / "store")
    rules = {"quorum": 2, "deadline_s": 60.0}
    made = create_federation(store, name="tiny", base=base, origin="base", method="mean", rules=rules)
    fetch(StoreGateway(made), tmp_path / "out")
    check_whole(made, tmp_path / "out")
    assert set(made.latest().files) == {"config.json", "model.safetensors", *TOKENIZER}
    assert all((tmp_path / "out" / name).read_text() == name for name in TOKENIZER)


@pytest.mark.parametrize(("fails_after", "pace"), [(5, Pace()), (14, SMALL)], ids=["parts", "pieces"])
def test_an_interrupted_fetch_goes_on_where_it_was(
    federation: Federation, tmp_path: Path, fails_after: int, pace: Pace
) -> None:
    broken, whole = Source(federation, fails_after=fails_after), Source(federation)
    with pytest.raises(TransportError, match="injected"):
        fetch(broken, tmp_path / "out", pace=pace)
    assert len(broken.given) == fails_after
    assert not (tmp_path / "out" / "config.json").exists()
    fetched = fetch(whole, tmp_path / "out", pace=pace)
    assert fetched.downloaded_bytes == whole.given_bytes == size_of(fetched.manifest) - broken.given_bytes
    assert fetched.reused_bytes == broken.given_bytes
    check_whole(federation, tmp_path / "out")


def test_a_part_that_goes_on_wrongly_is_brought_from_its_beginning(federation: Federation, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="injected"):
        fetch(Source(federation, fails_after=14), tmp_path / "out", pace=SMALL)
    for file in (tmp_path / "out" / ".coldfuse" / "incoming").iterdir():
        file.write_bytes(b"\0" * file.stat().st_size)
    fetch(StoreGateway(federation), tmp_path / "out", pace=SMALL)
    check_whole(federation, tmp_path / "out")


def test_only_what_changed_is_downloaded(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "out", which=0)
    source = Source(federation)
    fetched = fetch(source, tmp_path / "out")
    assert set(source.given) == parts_of(federation.release(1)) - parts_of(federation.release(0))
    assert 0 < fetched.downloaded_bytes < size_of(fetched.manifest) / 4
    check_whole(federation, tmp_path / "out")


def test_what_is_there_is_not_fetched_again(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "out")
    source = Source(federation)
    assert fetch(source, tmp_path / "out").reused_bytes == size_of(federation.latest())
    assert source.given == []


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["deleted", "emptied"])
def test_a_file_that_was_lost_since_is_fetched_again(federation: Federation, tmp_path: Path, damage) -> None:
    fetch(StoreGateway(federation), tmp_path / "out")
    damage(tmp_path / "out" / "model-00001-of-00002.safetensors")
    fetched = fetch(StoreGateway(federation), tmp_path / "out")
    assert 0 < fetched.downloaded_bytes < size_of(fetched.manifest)
    check_whole(federation, tmp_path / "out")


def test_an_older_release_can_be_had(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "out", which="latest")
    fetch(StoreGateway(federation), tmp_path / "out", which=0)
    check_whole(federation, tmp_path / "out", 0)
    with pytest.raises(FederationError, match="there is no release 9; the latest is 1"):
        fetch(StoreGateway(federation), tmp_path / "out", which=9)


def test_a_tampered_part_puts_nothing_in_place(federation: Federation, tmp_path: Path) -> None:
    part = federation.latest().files["model-00002-of-00002.safetensors"].parts[-1].digest
    with pytest.raises(DigestMismatchError, match=f"part {part[:12]} arrived with SHA-256"):
        fetch(Source(federation, tampered=part), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".coldfuse"]
    fetch(StoreGateway(federation), tmp_path / "out")
    check_whole(federation, tmp_path / "out")


def test_a_model_that_is_not_the_manifests_is_not_put_in_place(federation: Federation, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError, match="the model has digest"):
        fetch(Source(federation, changes={"model_digest": "0" * 64}), tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_manifest_that_is_not_the_channels_is_not_taken(tmp_path: Path, small_parts: int) -> None:
    changed = make_federation(tmp_path, make_model())
    manifest = changed.latest()
    changed.store.delete("releases/00000.json")
    changed.store.put_if_absent("releases/00000.json", b"{}")
    assert fetch(StoreGateway(changed), tmp_path / "out").manifest == manifest
    changed.store.delete(f"objects/{changed.channel('latest').manifest}")
    with pytest.raises(DamagedObjectError):
        fetch(StoreGateway(changed), tmp_path / "out")


OUTSIDE = [
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
    "a\x00x",
    "a\nx",
]
NOT_PUBLISHED = ["modeling.py", "pytorch_model.bin", "tokenizer", "a/code.so", "a/.hidden.json"]


@pytest.mark.parametrize(
    ("paths", "says"),
    [(OUTSIDE, "is not a path inside a model folder"), (NOT_PUBLISHED, "is neither tensors nor configuration")],
    ids=["outside", "not published"],
)
def test_paths_that_no_release_holds_are_refused(
    federation: Federation, tmp_path: Path, paths: list[str], says: str
) -> None:
    files = federation.latest().files
    for path in paths:
        with pytest.raises(CodecError, match=says):
            fetch(Source(federation, changes={"files": {path: files["config.json"]} | files}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_channel_is_said_before_anything_is_asked(federation: Federation, tmp_path: Path) -> None:
    for channel in ("../x", "", "Latest", "a/b", "a\nb"):
        with pytest.raises(UserInputError, match="is no channel's name"):
            fetch(StoreGateway(federation), tmp_path / "out", which=channel)
    assert not (tmp_path / "out").exists()


class KilledError(Exception):
    """Stands for a kill."""


def fetch_killed_at(monkeypatch: pytest.MonkeyPatch, source: StoreGateway, out: Path, n: int) -> bool:
    """Fetch, but die before the n-th change of a file's place; True if it came that far."""
    done = 0

    def counted(real):
        def call(*arguments: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done > n:
                raise KilledError
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        try:
            fetch(source, out)
        except KilledError:
            return True
    return False


def test_a_swap_that_is_killed_anywhere_never_looks_whole_and_is_finished(
    federation: Federation, other: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in count():
        out = tmp_path / str(n)
        fetch(StoreGateway(other), out)
        killed = fetch_killed_at(monkeypatch, StoreGateway(federation), out, n)
        has_swapped_something = {file.name for file in out.glob("*.safetensors")} != {"model.safetensors"}
        if killed and has_swapped_something and (out / "config.json").exists():
            assert open_checkpoint(out).digest() == federation.latest().model_digest
        assert read_fetched(out) in (None, other.latest(), federation.latest())
        fetch(StoreGateway(federation), out)
        check_whole(federation, out)
        if not killed:
            break
    assert n > 15  # the fault landed at every step


def test_a_fetch_that_is_killed_before_its_mark_goes_on(federation: Federation, tmp_path: Path, monkeypatch) -> None:
    assert fetch_killed_at(monkeypatch, StoreGateway(federation), tmp_path / "out", 0)
    fetch(StoreGateway(federation), tmp_path / "out")
    check_whole(federation, tmp_path / "out")


def test_an_unfinished_fetch_of_another_model_is_forgotten(
    federation: Federation, other: Federation, tmp_path: Path
) -> None:
    with pytest.raises(TransportError, match="injected"):
        fetch(Source(federation, fails_after=3), tmp_path / "out")
    fetch(StoreGateway(other), tmp_path / "out")
    check_whole(other, tmp_path / "out")
