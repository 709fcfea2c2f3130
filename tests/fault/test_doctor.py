"""`coldfuse doctor` finds whatever is damaged in a store, says what needs it, and brings back what can be."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from click.testing import Result
from commands import wait_until
from rot import HOW, large_model, rot
from tiny_rounds import contribute, lead, make_changes, make_federation, read_release
from typer.testing import CliRunner

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.cli.main import app
from coldfuse.consumer import fetch
from coldfuse.doctor.examine import Examination
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import DamagedObjectError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import KEY as LEASE
from coldfuse.registry.lease import Lease
from coldfuse.registry.quarantine import write_quarantine
from coldfuse.registry.settings import write_change
from coldfuse.storage import LocalStore

MODEL = large_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben", "cy"))}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads are repeated at once."""
    monkeypatch.setattr("coldfuse.tensors.rereading._PAUSE_S", 0.0)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with everything that stores hold: two releases, outer state, a history, an open round."""
    folder = tmp_path_factory.mktemp("original")
    made = make_federation(folder, MODEL, method="mean then fedadam")
    for quorum in (3, 2):
        now = open_federation(made.store)
        wanted = now.settings.changeable.model_copy(update={"quorum": quorum})
        etag = made.store.get_with_etag("federation.json")[1]
        write_change(made.store, now.settings, etag, wanted, by="me", after_release=0)
    made = open_federation(made.store)
    lead(made)
    contribute(made, "ada", CHANGES["ada"])
    contribute(made, "ben", CHANGES["ben"])
    lead(made)
    lead(made, 2)
    contribute(made, "cy", CHANGES["cy"])
    lead(made, 2)
    for name in ("mallory", "eve"):
        write_quarantine(made.store, name, is_out=True, reason="sends noise", by="me")
    lease = Lease(made.store, ttl_s=60.0)
    lease.try_acquire()
    lease.release()
    return folder / "store"


@pytest.fixture
def federation(original: Path, tmp_path: Path) -> Federation:
    return open_federation(LocalStore(shutil.copytree(original, tmp_path / "store")))


def keys_of(store: Path) -> list[str]:
    found = (path.relative_to(store) for path in store.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not path.parts[0].startswith("."))


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["doctor", *map(str, words)])


def test_a_sound_store_is_sound_and_nothing_in_it_is_garbage(federation: Federation) -> None:
    result = run(federation.store.url, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["damaged"], report["garbage"]["num_objects"]) == (0, [], 0)
    assert report["num_objects"] == len(federation.store.list("objects/").keys) + len(
        federation.store.list("checks/").keys
    )


@pytest.mark.parametrize("how", HOW)
def test_whatever_is_damaged_is_found_and_named_with_what_needs_it(federation: Federation, how: str) -> None:
    store = Path(federation.store.url)
    kinds = {key.partition("/")[0] for key in keys_of(store)}
    documents = {"federation.json", "settings", "quarantine.json", "quarantine", "channels", "leases"}
    assert kinds == {*documents, "checks", "objects", "releases", "rounds"}
    optional = {LEASE, "settings/copy.json", "federation.json", f"objects/{federation.settings.release_zero}"}
    missed = []
    for key in keys_of(store):
        if how == "missing" and (key in optional or "received" in key):
            continue  # older versions have none of them, or there is no federation, or nobody was acknowledged
        whole = (store / key).read_bytes()
        rot(federation, key, how, at=0.2)  # in what it says: one in the name of its seal changes nothing
        found = {finding.key: finding for finding in Examination(federation).run().findings}
        is_back = how == "missing" and "/journal/" in key and (store / key).exists()  # whoever reads the head writes it
        gap = key.rpartition("-")[0] + "-*"  # of an entry that is gone only its place is known
        if not found.keys() & {key, gap} and not is_back:
            missed.append(key)
        missed += [f"{key} needed by?" for finding in found.values() if not finding.needed_by]
        (store / key).parent.mkdir(exist_ok=True)
        (store / key).unlink(missing_ok=True)
        (store / key).write_bytes(whole)
    assert missed == []


@pytest.mark.parametrize("how", HOW)
def test_a_copy_of_the_store_brings_back_everything_at_once(federation: Federation, original: Path, how: str) -> None:
    before = read_release(federation)
    for key in keys_of(Path(federation.store.url)):
        if key.startswith(("objects/", "checks/", "releases/", "channels/")):
            rot(federation, key, how)
    assert run(federation.store.url).exit_code == 1
    first = run(federation.store.url, "--repair", "--from", original)
    assert first.exit_code == 0, first.stdout
    assert run(federation.store.url).stdout.startswith("sound: ")
    assert read_release(federation) == before
    contribute(federation, "ben", CHANGES["ben"])
    lead(federation, 2)
    assert federation.latest().release == 2


def test_a_folder_that_was_fetched_brings_back_the_base(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "fetched")
    release = federation.latest()
    for name in release.files:
        for part in release.files[name].parts:
            rot(federation, f"objects/{part.digest}", "flipped")
    lost = json.loads(run(federation.store.url, "--repair", "--json").stdout)["damaged"]
    assert {one["advice"] for one in lost} == {
        "give --from FOLDER, where that release was fetched to, or --from STORE, a copy of this store"
    }
    result = run(federation.store.url, "--repair", "--from", tmp_path / "fetched", "--json")
    assert (result.exit_code, json.loads(result.stdout)["sound"]) == (0, True)
    assert read_release(federation, 1)


def test_a_part_of_a_round_that_is_open_is_asked_for_again(federation: Federation) -> None:
    contribution = next(iter(federation.journal(2).state().admitted))
    manifest = json.loads(federation.objects.get(contribution))
    part = manifest["delta"]["parts"][-1]["digest"]
    rot(federation, f"objects/{part}", "cut")
    result = run(federation.store.url, "--repair")
    assert result.exit_code == 0
    assert f"objects/{part}" in result.stdout
    assert "its contributor is asked to send it again" in result.stdout
    assert not federation.objects.is_there(part)


def test_what_nothing_names_is_counted_and_left_alone(federation: Federation) -> None:
    federation.objects.put("ab" * 32, b"nobody's")
    result = run(federation.store.url, "--repair")
    assert result.exit_code == 0
    assert "nothing names 1 object, 0.0 MiB" in result.stdout
    assert federation.objects.is_there("ab" * 32)


def test_a_missing_settings_file_is_written_from_its_copy(federation: Federation) -> None:
    settings = federation.settings
    rot(federation, "federation.json", "missing")
    assert "doctor STORE --repair" in str(run(federation.store.url).exception)
    assert run(federation.store.url, "--repair").exit_code == 0
    assert open_federation(federation.store).settings == settings


@pytest.mark.parametrize("words", [["--repair"], ["--from", "x"]])
def test_what_makes_no_sense_is_wrong_usage(words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_without_a_store_it_tells_of_this_machine() -> None:
    assert "coldfuse" in json.loads(run("--json").stdout)


def test_a_service_on_a_damaged_base_says_so_stays_up_and_goes_on_once_it_is_repaired(
    federation: Federation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch(StoreGateway(federation), tmp_path / "fetched")
    part = federation.latest().files["model.safetensors"].parts[-1]
    rot(federation, f"objects/{part.digest}", "flipped")
    contribute(federation, "ben", CHANGES["ben"])
    settings, stop, published = AggregatorSettings(rounds=1, poll_s=0.01, lease_ttl_s=0.3), threading.Event(), []

    def serve() -> None:
        reopened = open_federation(LocalStore(federation.store.url))
        published.extend(event.event for _, event in serve_rounds(reopened, ThreadExecutor(1), settings, stop=stop))

    service = threading.Thread(target=serve)
    service.start()
    try:
        wait_until(lambda: caplog.text.count(f"objects/{part.digest}") >= 2, "the second word of the damage")
        assert service.is_alive()
        assert "fused" not in published
        assert run(federation.store.url, "--repair", "--from", tmp_path / "fetched").exit_code == 0
        service.join(60)
    finally:
        stop.set()
        service.join()
    assert federation.latest().release == 2


@pytest.mark.parametrize("how", HOW)
def test_damaged_outer_state_is_never_fused(federation: Federation, how: str) -> None:
    files = federation.latest().outer.files
    part = next(iter(files.values())).parts[-1]
    rot(federation, f"objects/{part.digest}", how)
    contribute(federation, "ben", CHANGES["ben"])
    with pytest.raises(DamagedObjectError, match=part.digest):
        lead(federation, 2)
    assert federation.latest().release == 1
