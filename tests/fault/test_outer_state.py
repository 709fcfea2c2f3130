"""What the outer steps remember: as by hand, whoever leads, killed or not."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from commands import Process, wait_until
from fault import aggregator_process
from fault.outer_rounds import METHOD, MODEL, assert_as_by_hand, deltas_of, play
from tiny_rounds import contribute, lead, make_contribution, make_federation, parse_file, receive

from coldfuse.core.federation import ChangeableSettings
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.settings import read_settings, write_change
from coldfuse.storage import LocalStore, collect_garbage


@pytest.mark.parametrize("num_files", [1, 6])  # of six files one has no tensor that is fused
def test_rounds_make_the_steps_that_one_makes_by_hand(tmp_path: Path, small_parts: int, num_files: int) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=num_files, method=METHOD)
    for number in (1, 2, 3):
        assert play(federation, number, threads=number).outer.age == number
        assert_as_by_hand(federation, number)


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
    assert lead(federation, 2)[-1].event == "admitted"
    assert lead(federation, 2, now_s=1e3)[-1].event == "abandoned"
    lead(federation, 3, now_s=1e3)
    contribute(federation, "ben", deltas_of(2)[1])
    assert lead(federation, 3, now_s=1e3)[-1].event == "published"
    assert federation.latest().outer.age == 2
    assert_as_by_hand(federation, 2)


def test_a_round_that_the_method_refused_does_not_age_the_state(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="foolsgold then nesterov", screening=ScreeningRules.off())
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
    settings, etag = read_settings(federation.store)
    write_change(federation.store, settings, etag, ChangeableSettings(method="fedadam"), by="ann", after_release=1)
    changed = open_federation(federation.store)
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
    """Counts its writes, and dies before one of them: nothing is written after that."""

    num_writes, fatal = 0, 0

    def _write(self) -> None:
        self.num_writes += 1
        if self.num_writes >= self.fatal > 0:
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


def lead_until(federation: Federation, fatal: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Lead until the write of this number, which must come, or to the end if it is 0; return the number of writes."""
    store = CrashingStore(federation.store.url)
    store.fatal = fatal
    with monkeypatch.context() as patch, pytest.raises(CrashError) if fatal else nullcontext():
        patch.setattr("coldfuse.engine.sinks.federation_store", lambda url: store)
        lead(open_federation(store), 2)
    return store.num_writes


def test_killed_at_a_write_of_any_kind_the_step_is_made_once(
    tmp_path: Path, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = copy_with_second_round(tmp_path, "calm")
    num_writes = lead_until(calm, 0, monkeypatch)
    assert_as_by_hand(calm, 2)
    assert num_writes > 40  # among them one for each part of the model, and of the momentum: they are much alike
    for number in (*range(1, 9), *range(9, num_writes - 10, 6), *range(num_writes - 10, num_writes + 1)):
        federation = copy_with_second_round(tmp_path, f"killed-{number}")
        lead_until(federation, number, monkeypatch)
        lead(open_federation(LocalStore(federation.store.url)), 2)
        release, expected = federation.latest(), calm.latest()
        assert (release.files, release.outer) == (expected.files, expected.outer), number


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
