"""What the outer steps remember: as by hand, whoever leads, killed or not, in a store and in a folder."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Process, wait_until
from fault import aggregator_process
from folder_fusions import fuse
from tiny_rounds import (
    Model,
    contribute,
    floats,
    lead,
    make_changes,
    make_contribution,
    make_federation,
    make_model,
    parse_file,
    read_release,
    receive,
    small_parts,
    write_file,
)

from coldfuse.aggregator.execution import ThreadExecutor
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import CodecError, SchemaMismatchError, UserInputError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore, collect_garbage

__all__ = ["small_parts"]

MODEL = make_model()
METHOD = "mean then nesterov"
ETA, MU = 0.7, 0.9
Arrays = dict[str, np.ndarray]


def deltas_of(number: int) -> list[Arrays]:
    """What two contributors send in a round."""
    return [make_changes(MODEL, 10 * number + seed) for seed in (0, 1)]


def play(federation: Federation, number: int, *, threads: int = 1) -> ReleaseManifest:
    """Play a round with an aggregator that has just started."""
    federation = open_federation(LocalStore(federation.store.url))
    lead(federation, number)
    for name, changes in zip(("ada", "ben"), deltas_of(number), strict=True):
        contribute(federation, name, changes)
    lead(federation, number, executor=ThreadExecutor(threads))
    assert federation.latest().round == number
    return federation.latest()


def step_by_hand(model: Model, momentum: Arrays, deltas: Sequence[Arrays]) -> tuple[Model, Arrays]:
    """u ← μ u + Δ; θ ← θ + η (Δ + μ u); u is kept in float32."""
    moved, kept = dict(model), {}
    for name, tensor in model.items():
        if tensor.spec.is_fused:
            delta = sum(d[name].astype(np.float64) for d in deltas if name in d) / len(deltas)
            u = MU * momentum[name].astype(np.float64) + delta
            moved[name] = floats(tensor.floats.astype(np.float64) + ETA * (delta + MU * u), tensor.spec.dtype)
            kept[name] = u.astype(np.float32) * np.ones(tensor.spec.shape, np.float32)
    return moved, kept


def by_hand(rounds: int) -> tuple[Model, Arrays]:
    model = MODEL
    momentum = {n: np.zeros(t.spec.shape, np.float32) for n, t in model.items() if t.spec.is_fused}
    for number in range(1, rounds + 1):
        model, momentum = step_by_hand(model, momentum, deltas_of(number))
    return model, momentum


def read_state(federation: Federation, release: ReleaseManifest) -> Arrays:
    """Read the momentum from the store, with the library that defines the files."""
    state: Model = {}
    for name, blob in release.outer.files.items():
        assert name.startswith("momentum/")
        state |= parse_file(federation.objects.open(blob).read(0, blob.size_bytes))
    return {name: tensor.floats for name, tensor in state.items()}


def assert_as_by_hand(federation: Federation, rounds: int) -> None:
    model, momentum = by_hand(rounds)
    assert read_release(federation) == model
    state = read_state(federation, federation.latest())
    assert state.keys() == momentum.keys()
    assert all(np.array_equal(state[name], momentum[name]) for name in state)


@pytest.mark.parametrize("num_files", [1, 6])  # of six files one has no tensor that is fused
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_rounds_make_the_steps_that_one_makes_by_hand(
    tmp_path: Path, small_parts: int, num_files: int, rounds: int
) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=num_files, method=METHOD)
    for number in range(1, rounds + 1):
        assert play(federation, number, threads=number).outer.age == number
    assert_as_by_hand(federation, rounds)


def test_the_state_is_of_the_release_and_of_no_consumer(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=3, method=METHOD)
    assert federation.latest().outer is None
    release = play(federation, 1)
    models = {path for path in release.files if path.endswith(".safetensors")}
    assert set(release.outer.files) == {f"momentum/{path}" for path in models}
    assert release.files.keys() == federation.release(0).files.keys()
    of_model = {part.digest for blob in release.files.values() for part in blob.parts}
    assert not of_model & {part.digest for blob in release.outer.files.values() for part in blob.parts}


def test_a_method_without_a_memory_keeps_none(tmp_path: Path) -> None:
    assert play(make_federation(tmp_path, MODEL, method="ties"), 1).outer is None


def test_a_round_abandoned_at_its_deadline_does_not_age_the_state(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method=METHOD)
    play(federation, 1)
    lead(federation, 2)
    contribute(federation, "ada", deltas_of(2)[0])
    assert lead(federation, 2, now_s=1e3)[-1].event == "abandoned"
    lead(federation, 3, now_s=1e3)
    contribute(federation, "ben", deltas_of(2)[1])
    assert lead(federation, 3, now_s=1e3)[-1].event == "published"
    assert federation.latest().outer.age == 2
    assert_as_by_hand(federation, 2)


def test_a_round_that_the_method_refused_does_not_age_the_state(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="foolsgold then nesterov")
    play(federation, 1)
    lead(federation, 2)
    for name in ("ada", "ben"):
        contribute(federation, name, deltas_of(2)[0])
    assert lead(federation, 2)[-1].event == "abandoned"
    lead(federation, 3)
    contribute(federation, "cy", deltas_of(2)[1])
    assert lead(federation, 3)[-1].event == "published"
    assert federation.latest().outer.age == 2


def test_another_set_of_slots_begins_anew(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method=METHOD)
    play(federation, 1)
    changed = replace(federation, settings=federation.settings.model_copy(update={"method": "fedadam"}))
    lead(changed, 2)
    for name, changes in zip(("ada", "ben"), deltas_of(2), strict=True):
        contribute(changed, name, changes)
    lead(changed, 2)
    outer = changed.latest().outer
    assert outer.age == 1
    assert {name.split("/")[0] for name in outer.files} == {"first_moment", "second_moment"}
    blob = outer.files["first_moment/model.safetensors"]
    first = parse_file(changed.objects.open(blob).read(0, blob.size_bytes))["scale"].floats
    delta = sum(d["scale"].astype(np.float64) for d in deltas_of(2)) / 2
    assert first == np.float32((1 - 0.9) * delta)  # nothing of the round before


def test_no_garbage_collection_takes_the_state(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method=METHOD)
    play(federation, 1)
    collect_garbage(federation.store, older_than_s=0.0)
    play(federation, 2)
    assert_as_by_hand(federation, 2)


class CrashError(Exception):
    """Stands for a kill."""


class CrashingStore(LocalStore):
    """Dies before its n-th write."""

    countdown = -1

    def _write(self) -> None:
        self.countdown -= 1
        if self.countdown == 0:
            raise CrashError

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._write()
        return super().put_if_absent(key, data)

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        self._write()
        return super().compare_and_swap(key, data, etag=etag)


def copy_with_second_round(tmp_path: Path, folder: str) -> Federation:
    """Copy a federation whose second round has all its contributions, and is not closed yet."""
    prepared = tmp_path / "prepared"
    if not prepared.exists():
        federation = make_federation(tmp_path, MODEL, method=METHOD)
        play(federation, 1)
        lead(federation, 2)
        for name, changes in zip(("ada", "ben"), deltas_of(2), strict=True):
            receive(federation, make_contribution(federation, name, changes))
        os.replace(federation.store.url, prepared)
    shutil.copytree(prepared, tmp_path / folder)
    return open_federation(LocalStore(tmp_path / folder))


def crash_at(federation: Federation, number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Lead until the n-th write; say whether there was one."""
    store = CrashingStore(federation.store.url)
    store.countdown = number
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.aggregator.release.shared_store", lambda url: store)
        try:
            lead(open_federation(store), 2)
        except CrashError:
            return True
    return False


def test_killed_at_any_write_the_step_is_made_once(
    tmp_path: Path, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = copy_with_second_round(tmp_path, "calm")
    lead(calm, 2)
    assert_as_by_hand(calm, 2)
    number = 1
    while crash_at(federation := copy_with_second_round(tmp_path, f"killed-{number}"), number, monkeypatch):
        lead(open_federation(LocalStore(federation.store.url)), 2)
        release, expected = federation.latest(), calm.latest()
        assert (release.files, release.outer) == (expected.files, expected.outer), number
        number += 1
    assert number > 40  # among them one for each part of the model, and of the momentum


def start(federation: Federation, folder: Path, *strike: object) -> Process:
    return Process(sys.executable, aggregator_process.__file__, federation.store.url, 0.3, folder / "writes", *strike)


def test_a_process_killed_between_the_parts_and_the_release_leaves_no_second_step(tmp_path: Path) -> None:
    calm, federation = (copy_with_second_round(tmp_path, name) for name in ("calm", "killed"))
    with start(calm, tmp_path) as aggregator:
        wait_until(lambda: calm.journal(3).head(), f"round 3; {aggregator}")
    writes = (tmp_path / "writes").read_text().splitlines()
    (tmp_path / "writes").unlink()
    with start(federation, tmp_path, "SIGKILL", "before", writes.index("releases/00002.json")) as victim:
        assert victim.wait() == -signal.SIGKILL
    assert federation.latest().release == 1
    with start(federation, tmp_path) as successor:
        wait_until(lambda: federation.journal(3).head(), f"round 3; {successor}")
    release, expected = federation.latest(), calm.latest()
    assert (release.files, release.outer) == (expected.files, expected.outer)
    assert_as_by_hand(federation, 2)


def write_deltas(federation: Federation, number: int, folder: Path) -> list[Path]:
    """Write what was sent in a round, as files."""
    paths = []
    for index, changes in enumerate(deltas_of(number)):
        delta = make_contribution(federation, "x", changes).delta
        paths.append(folder / f"delta-{number}-{index}.safetensors")
        paths[-1].write_bytes(federation.objects.open(delta).read(0, delta.size_bytes))
    return paths


@pytest.mark.parametrize("num_files", [1, 6])
@pytest.mark.parametrize("method", [METHOD, "ties then fedadam", "median then fedyogi"])
def test_folders_go_on_from_what_they_carry_as_a_federation_does(
    tmp_path: Path, small_parts: int, num_files: int, method: str
) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=num_files, method=method)
    base = tmp_path / "base"
    for number in (1, 2, 3):
        deltas, out = write_deltas(federation, number, tmp_path), tmp_path / f"out-{number}"
        release = play(federation, number)
        assert fuse(base, deltas, out, method) == release.model_digest
        base = out
    for name, blob in release.outer.files.items():
        assert (base / "outer" / name).read_bytes() == federation.objects.open(blob).read(0, blob.size_bytes), name


@pytest.fixture
def carrying(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A base that carries the state of one step, and deltas on it."""
    federation = make_federation(tmp_path, MODEL, method=METHOD)
    fuse(tmp_path / "base", write_deltas(federation, 1, tmp_path), tmp_path / "carrying", METHOD)
    play(federation, 1)
    return tmp_path / "carrying", write_deltas(federation, 2, tmp_path)


def test_without_its_memory_a_folder_begins_anew(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    shutil.copytree(base, tmp_path / "forgetful")
    shutil.rmtree(tmp_path / "forgetful" / "outer")
    digests = {fuse(b, deltas, tmp_path / f"{b.name}-2", METHOD) for b in (base, tmp_path / "forgetful")}
    assert len(digests) == 2
    assert '"age":2' in (tmp_path / "carrying-2" / "outer" / "state.json").read_text()
    assert '"age":1' in (tmp_path / "forgetful-2" / "outer" / "state.json").read_text()


def test_a_memory_of_other_slots_is_not_used(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    with_state = fuse(base, deltas, tmp_path / "a", "fedadam")
    shutil.rmtree(base / "outer")
    assert fuse(base, deltas, tmp_path / "b", "fedadam") == with_state
    assert sorted(path.name for path in (tmp_path / "a" / "outer").iterdir()) == [
        "first_moment",
        "second_moment",
        "state.json",
    ]


def test_a_method_without_a_memory_leaves_none_behind(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    fuse(base, deltas, tmp_path / "out", "mean")
    assert not (tmp_path / "out" / "outer").exists()


def test_a_memory_of_another_model_is_refused(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    write_file(base / "outer" / "momentum" / "model.safetensors", {"scale": floats(1.0)})
    with pytest.raises(SchemaMismatchError, match="does not have the tensors of model.safetensors; remove the folder"):
        fuse(base, deltas, tmp_path / "out", METHOD)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"age": -1, "slots": ["momentum"]}', "[]"])
def test_a_damaged_memory_is_told(carrying: tuple[Path, list[Path]], tmp_path: Path, text: str) -> None:
    base, deltas = carrying
    (base / "outer" / "state.json").write_text(text)
    with pytest.raises(CodecError, match=r"outer/state\.json: "):
        fuse(base, deltas, tmp_path / "out", METHOD)


def test_a_memory_that_lost_a_file_is_told(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    (base / "outer" / "momentum" / "model.safetensors").unlink()
    with pytest.raises((CodecError, UserInputError), match="momentum"):
        fuse(base, deltas, tmp_path / "out", METHOD)
