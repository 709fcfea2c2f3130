"""A collection at any moment, killed at any moment: what is promised still reads."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dying_store import DyingStore, KilledError
from faulty_store import installed
from retracted_rounds import NAMES, played, seed_of, take_out, verified
from rooted_rounds import make_signed_federation
from tiny_rounds import contribute, lead, make_changes, make_contribution, make_model, read_release, receive

from coldfuse.aggregator.retractable import plan_retraction
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.retention import RetentionRules
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.doctor.examine import Examination
from coldfuse.errors import CodecError, FederationError, GatewayBusyError, NotAllowedError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.garbage import Garbage, collect, survey
from coldfuse.gateway.intake import Intake, sender_of
from coldfuse.gateway.leftovers import COLLECTING
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import KEY as LEASE_KEY
from coldfuse.registry.lease import RETRACTING, Lease
from coldfuse.registry.moving import promote, roll_back
from coldfuse.registry.objects import object_key
from coldfuse.storage import LocalStore, open_store
from coldfuse.storage.base import list_keys
from coldfuse.tensors.checkpoint import open_release
from coldfuse.tensors.contents import content_digest

STRICT = RetentionRules(keep_releases=1, keep_deltas=1)
_READS = ("get", "head", "read_into", "get_with_etag", "list")


def clean(federation: Federation, rules: RetentionRules = STRICT, **meanwhile: Callable[[float], None]) -> Garbage:
    """Collect, without waiting."""
    return collect(federation, rules, settle_s=0.0, **({"wait": lambda _: None} | meanwhile))


def assert_kept(federation: Federation, found: Garbage, *, recomputes: bool = True) -> None:
    """What is promised reads: models, what they are fused again from, and whoever is taken out of them."""
    for number in found.kept.files:
        release = federation.release(number)
        opened = open_release(federation.store.url, release)
        assert content_digest(list(opened.files.values())) == release.model_digest, number
    assert Examination(federation).run().is_sound
    if not recomputes:
        return
    report = verified(federation)
    assert not [finding for finding in report.findings if finding.cause.word != "unsigned"]
    line = federation.latest()
    while line.parent is not None and line.release in found.kept.deltas:
        assert next(one.agrees for one in report.recomputed if one.release == line.release)
        for one in line.contributions[:1]:
            assert plan_retraction(federation, one.contribution, reason="it could be", erases=False)
        line = federation.release(line.parent)


def test_by_itself_it_removes_nothing_that_anybody_needs(tmp_path: Path) -> None:
    federation = played(tmp_path, opens=True, quorum=2)
    before = set(list_keys(federation.store, ""))
    assert not clean(federation, RetentionRules()).num_objects
    assert set(list_keys(federation.store, "")) - before <= {LEASE_KEY}


def test_what_was_rejected_or_never_finished_goes(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES])
    lead(federation, 2)
    bad = make_contribution(federation, "ben", {"scale": make_changes(make_model(), 1)["scale"] * float("nan")})
    rejected = receive(federation, bad)
    for name in ("ada", "cy"):
        contribute(federation, name, make_changes(make_model(), seed_of(2, name)))
    lead(federation, 2, now_s=9.0)
    lead(federation, 3)
    contribute(federation, "ada", make_changes(make_model(), seed_of(3, "ada")))
    lead(federation, 3, now_s=9.0)
    federation.objects.put("ab" * 32, b"never finished")  # the store believes its name
    found = survey(federation, RetentionRules())
    assert sum(found.num_objects.values()) >= 2
    clean(federation, RetentionRules())
    assert not any(federation.objects.is_there(part.digest) for part in bad.delta.parts[1:])
    assert federation.objects.is_there(rejected)  # manifests stay
    assert not federation.objects.is_there("ab" * 32)


def test_rules_keep_what_they_say_and_what_that_needs(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES] * 6, method="mean then nesterov", opens=True, quorum=2)
    rules = RetentionRules(keep_releases=2, keep_deltas=3)
    said = survey(federation, rules)
    found = clean(federation, rules)
    assert (found.num_objects, found.num_bytes) == (said.num_objects, said.num_bytes)
    assert (found.kept.files, found.kept.deltas) == ({3, 4, 5, 6}, {4, 5, 6})
    assert_kept(federation, found)
    assert not clean(federation, rules).num_objects
    with pytest.raises(FederationError, match="not whole in the store any more"):
        take_out(federation, "ben")
    with StoreGateway(federation) as gateway:
        part = federation.release(1).files["model.safetensors"].parts[-1]
        with pytest.raises(FederationError, match="retention rules"):
            gateway.read_into(1, part.digest, memoryview(bytearray(part.size_bytes)))
    with pytest.raises(FederationError, match="retention rules"):
        roll_back(federation, 1, reason="", by="", signer=None)


def test_what_a_channel_points_to_stays_and_all_that_it_may_move_on_to(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES] * 5)
    promote(federation, 2, signer=None)
    found = clean(federation)
    assert found.kept.files == {2, 3, 4, 5}
    assert read_release(federation, 2)


@pytest.mark.parametrize("seed", range(2))
def test_random_federations_keep_their_promises(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    names = [rng.sample(NAMES, rng.randint(1, 3)) for _ in range(rng.randint(2, 4))]
    methods = ["mean", "mean then nesterov", "ties(density=0.5)"]
    federation = played(tmp_path, names, method=rng.choice(methods), dtype=rng.choice(["F32", "BF16"]))
    for number in range(rng.randint(1, 3)):
        rules = RetentionRules(
            keep_releases=rng.choice([None, 1, 2]), keep_deltas=rng.choice([None, 0, 1, 2])
        )  # fmt: skip
        assert_kept(federation, clean(federation, rules))
        if rng.random() < 0.6:
            one = rng.choice(federation.latest().contributions or federation.release(1).contributions)
            try:
                take_out(federation, one.contribution, erases=rng.random() < 0.5)
            except FederationError as error:
                assert "nothing was written" in str(error)  # noqa: PT017
        current = federation.current_round()
        lead(federation, current)
        contribute(federation, "ada", make_changes(make_model(), 100 + number))
        lead(federation, current, now_s=9.0)
    assert_kept(federation, clean(federation))


class Recording(DyingStore):
    """A store that notes what is asked of it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[tuple[str, str]] = []

    def _begin(self, operation: str, key: str) -> None:
        self.asked.append((operation, key))
        super()._begin(operation, key)


class Interrupted(DyingStore):
    """A store that does something once, before its n-th operation."""

    def __init__(self, url: str, *, at: int, do: Callable[[], object]) -> None:
        super().__init__(url)
        self._at, self._do, self.is_done = at, do, False

    def _begin(self, operation: str, key: str) -> None:
        if self.num_done == self._at and not self.is_done:
            self.is_done = True
            self._do()
        super()._begin(operation, key)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two releases, and contributions to a third round that nobody has looked at."""
    names = ("ada", "ben")
    federation = played(
        tmp_path_factory.mktemp("received"), [names, names], opens=True, quorum=2, method="mean then nesterov"
    )
    for name in names:
        contribute(federation, name, make_changes(make_model(), seed_of(3, name)))
    return Path(federation.store.url)


def copy(store: Path, folder: Path) -> Federation:
    return open_federation(LocalStore(shutil.copytree(store, folder)))


def test_between_any_two_operations_of_a_round_nothing_is_lost(received: Path, tmp_path: Path) -> None:
    def play(federation: Federation) -> None:
        lead(federation, 3)
        lead(federation, 4)

    calm = copy(received, tmp_path / "calm")
    with installed(Recording(calm.store.url)) as store:
        play(open_federation(store))
    written = [at for at, (operation, key) in enumerate(store.asked) if operation not in _READS and key != LEASE_KEY]
    num_quiet = 0
    for at in sorted({0, *(at + 1 for at in written)} - {store.num_done})[::2]:
        federation = copy(received, tmp_path / str(at))

        def collects(federation: Federation = federation) -> None:
            nonlocal num_quiet
            try:
                clean(federation)
                num_quiet += 1
            except FederationError as error:
                assert "is being fused" in str(error)  # noqa: PT017

        with installed(Interrupted(federation.store.url, at=at, do=collects)) as interrupted:
            play(open_federation(interrupted))
            assert interrupted.is_done
        assert federation.latest().model_digest == calm.latest().model_digest
        assert Examination(federation).run().is_sound, at
        shutil.rmtree(federation.store.url)
    assert num_quiet >= 2


class DyingWriter(DyingStore):
    """A store whose process is killed before its n-th write; those of the lease, which go by time, do not count."""

    def _begin(self, operation: str, key: str) -> None:
        if self.is_dead or (operation not in _READS and key != LEASE_KEY):
            super()._begin(operation, key)


def test_killed_before_any_write_it_is_run_again(received: Path, tmp_path: Path) -> None:
    whole = copy(received, tmp_path / "calm")
    with installed(DyingWriter(whole.store.url)) as store:
        assert clean(open_federation(store)).num_objects
    assert store.num_done > 5
    left = {key for key in list_keys(whole.store, "") if key.startswith(("objects/", "checks/"))}
    for number in range(1, store.num_done + 1, 3):
        federation = copy(received, tmp_path / str(number))
        with installed(DyingWriter(federation.store.url, dies_at=number)) as dying, pytest.raises(KilledError):
            clean(open_federation(dying))
        federation.store.delete(COLLECTING)  # as after an hour
        found = clean(federation)
        assert {key for key in list_keys(federation.store, "") if key.startswith(("objects/", "checks/"))} == left
        assert_kept(federation, found, recomputes=False)


def test_what_is_taken_into_use_meanwhile_stays(received: Path, tmp_path: Path) -> None:
    federation = copy(received, tmp_path / "a")
    calls: list[float] = []

    def meanwhile(seconds: float) -> None:
        calls.append(seconds)
        if len(calls) == 1:
            federation.store.delete(next(iter(list_keys(federation.store, "collected/"))))  # it has not looked there
            roll_back(federation, 0, reason="", by="", signer=None)

    clean(federation, wait=meanwhile)
    assert calls
    assert federation.channel("latest").release == 0
    assert read_release(federation)


def test_what_is_announced_is_taken_by_no_gateway_until_it_is_gone(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES, NAMES], opens=True, quorum=2)
    old = federation.release(1).contributions[0].contribution
    before = federation.objects.get(old)
    again = make_contribution(federation, "ada", make_changes(make_model(), 11))
    stale = decode(ContributionManifest, before, what="old")
    sent = again.model_copy(update={"delta": stale.delta, "delta_digest": stale.delta_digest})
    refused: list[str] = []

    def meanwhile(_: float) -> None:
        try:
            Intake(StoreGateway(federation), federation).commit(encode(sent), sender_of("ada's", "10.0.0.1"))
        except GatewayBusyError as error:
            refused.append(str(error))

    clean(federation, wait=meanwhile)
    assert refused


def test_an_unfinished_upload_is_left_alone(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES], opens=True, quorum=2)
    manifest = make_contribution(federation, "ben", make_changes(make_model(), 30))
    data = {part: federation.store.get(object_key(part.digest)) for part in manifest.parts}
    for part in manifest.parts:
        federation.store.delete(object_key(part.digest))
    with Intake(StoreGateway(federation), federation) as intake:
        for part in manifest.parts:
            upload = intake.begin_upload(part, sender_of("ben's", "10.0.0.1"))
            upload.write(data[part])
            upload.finish()
    clean(federation)
    assert all(federation.objects.has(part.digest, part.size_bytes) for part in manifest.parts)


def test_who_retracts_is_not_disturbed(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES, NAMES])
    with Lease(federation.store, ttl_s=30.0, purpose=RETRACTING) as lease:
        assert lease.try_acquire() is None
        with pytest.raises(FederationError, match="is being retracted"):
            clean(federation)
    assert federation.store.head(COLLECTING) is None
    clean(federation)


def test_where_a_document_is_damaged_everything_stays(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES, NAMES], opens=True, quorum=2)
    contribute(federation, "ada", make_changes(make_model(), 40))
    lead(federation, 3)
    key = next(key for key in list_keys(federation.store, "rounds/00003/journal/") if key.endswith("-received"))
    federation.store.delete(key)
    federation.store.put_if_absent(key, b'{"event":')
    before = set(list_keys(federation.store, "objects/"))
    with pytest.raises(CodecError, match="damaged"):
        clean(federation)
    assert set(list_keys(federation.store, "objects/")) == before


def test_with_a_root_what_was_removed_is_signed_and_verified(tmp_path: Path) -> None:
    made = make_signed_federation(tmp_path, rounds=3)
    with pytest.raises(NotAllowedError):
        clean(open_federation(made.store))
    assert clean(made.federation).num_objects
    report = verified(made.federation, fingerprint=made.keys.fingerprint)
    assert report.status(strict=True) == 0, [str(one) for one in report.findings]
    assert [one.agrees for one in report.recomputed] == [True]
    assert any("retention rules" in note for note in report.notes)


def test_on_s3_as_in_a_folder(tmp_path: Path, s3_url: str) -> None:
    local, store = played(tmp_path, [NAMES] * 3), open_store(s3_url)
    for key in list_keys(local.store, ""):
        store.put_if_absent(key, local.store.get(key))
    remote = open_federation(store)
    rules = RetentionRules(keep_releases=2, keep_deltas=2)
    for federation in (local, remote):
        assert clean(federation, rules).num_objects
        take_out(federation, federation.latest().contributions[0].contribution, erases=True)
    assert remote.latest().model_digest == local.latest().model_digest
    assert {key for key in list_keys(store, "objects/") if key not in set(list_keys(local.store, "objects/"))} <= {
        object_key(sha256(encode(remote.latest())))
    }


def test_releases_that_held_what_was_retracted_can_go_and_the_one_after_them_is_fused_again(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES] * 3)
    take_out(federation, "ben", erases=True)
    found = clean(federation)
    assert (found.kept.files, found.kept.deltas) == ({0, 4}, {4})
    assert_kept(federation, found)
    report = verified(federation)
    assert [one.agrees for one in report.recomputed] == [True]
