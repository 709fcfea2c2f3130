"""Signing a release before it is published: right, once, by nobody else, and whatever is killed in between."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faulty_store import Fault, FaultyStore
from federation_keys import TinyTrust
from signed_rounds import HEAD, TERMS, fuse_round
from tiny_rounds import lead, make_federation, make_model, write_model

from coldfuse.aggregator.signing import hash_one, mend_signatures, sign_release
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import encode, sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import ConflictError, SignatureError, StorageError
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.releases import read_statement_of
from coldfuse.registry.signing import ReleaseSigners, is_signed, whole_digests, write_signatures
from coldfuse.storage import LocalStore
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.checks import checks_of
from coldfuse.tensors.files import BlobFile
from coldfuse.trust.founding import AggregatorSigner, FounderKeys
from coldfuse.trust.keys import Signer
from coldfuse.trust.model_signature import model_signature_key, read_signature
from coldfuse.trust.provenance import statement_key

SIGNERS = TinyTrust()


@dataclass(frozen=True)
class AggregatorOnly:
    """An aggregator without a model key."""

    aggregator: Signer
    model: None = None


@dataclass
class Counting(ThreadExecutor):
    """Threads that note which files they were given."""

    hashed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(2)

    def run(self, task: Callable, shared: object, items: Sequence, **options: object) -> Iterator[tuple[int, object]]:
        self.hashed += [item.name for item in items]
        yield from super().run(task, shared, items, **options)


def sign_it(federation: Federation, manifest: ReleaseManifest, *, signers: ReleaseSigners = SIGNERS) -> list[str]:
    """Sign a release; return the files that had to be read."""
    executor = Counting()
    sign_release(federation, manifest, executor, signers=signers, terms=TERMS, journal_head=HEAD)
    return executor.hashed


def stored(federation: Federation, number: int) -> tuple[bytes, bytes]:
    store = federation.store
    return store.get(model_signature_key(number)), store.get(statement_key(number))


def content(federation: Federation, manifest: ReleaseManifest, path: str) -> bytes:
    return b"".join(federation.store.get(f"objects/{part.digest}") for part in manifest.files[path].parts)


@pytest.fixture
def federation(tmp_path: Path, small_parts: int) -> Federation:
    return make_federation(tmp_path, make_model(), num_files=2)


def test_both_signatures_say_what_the_release_is(federation: Federation) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    bundle, _ = stored(federation, 1)
    signed = read_signature(bundle, [SIGNERS.model.public])
    assert signed.digests == {path: sha256(content(federation, manifest, path)) for path in manifest.files}
    assert signed.name == f"{federation.settings.federation[:16]}/1"
    statement = read_statement_of(
        federation.store, manifest, digest=sha256(encode(manifest)), keys=[SIGNERS.aggregator.public]
    )
    assert statement is not None
    digests = [bytes.fromhex(signed.digests[path]) for path in sorted(signed.digests)]
    assert statement.files == hashlib.sha256(b"".join(digests)).hexdigest()
    assert statement.parent == sha256(federation.release_bytes(0))
    assert len(statement.contributions) == 2
    assert (statement.parameters.terms, statement.journal_head) == (TERMS, HEAD)


def test_the_base_is_signed_by_what_lies_in_its_folder(federation: Federation, tmp_path: Path) -> None:
    manifest = federation.latest()
    digests = whole_digests(open_checkpoint(tmp_path / "base"))
    write_signatures(federation, manifest, digests, signers=SIGNERS, terms=TERMS)
    bundle, envelope = stored(federation, 0)
    assert read_signature(bundle, [SIGNERS.model.public]).digests == {
        path: sha256((tmp_path / "base" / path).read_bytes()) for path in manifest.files
    }
    assert sign_it(federation, manifest) == []  # it is signed, though without a journal's head
    assert stored(federation, 0) == (bundle, envelope)


def test_only_what_has_changed_is_read_and_that_once(federation: Federation) -> None:
    base = federation.latest()
    in_parts = {path for path, blob in base.files.items() if len(blob.parts) > 1}
    assert set(sign_it(federation, base)) == in_parts
    manifest = fuse_round(federation, 1)
    changed = {path for path in in_parts if manifest.files[path] != base.files[path]}
    assert changed
    assert in_parts - changed  # else nothing could be known from the parent
    assert set(sign_it(federation, manifest)) == changed
    assert sign_it(federation, manifest) == []


def test_a_parents_signature_by_another_key_is_not_believed(federation: Federation) -> None:
    base = federation.latest()
    sign_it(federation, base, signers=TinyTrust())
    manifest = fuse_round(federation, 1)
    assert set(sign_it(federation, manifest)) == {path for path, blob in manifest.files.items() if len(blob.parts) > 1}


def test_a_task_travels_to_another_process_and_says_the_same(federation: Federation) -> None:
    manifest = federation.latest()
    path = next(path for path, blob in manifest.files.items() if len(blob.parts) > 1)
    checks = checks_of(manifest.files[path], manifest.checks.get(path))
    file = BlobFile(federation.store.url, manifest.files[path], path, checks)
    task, sent = pickle.loads(pickle.dumps((hash_one, file)))  # as Ray does
    assert task(None, sent) == sha256(content(federation, manifest, path))


def test_two_signings_give_the_same_bytes(federation: Federation) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    before = stored(federation, 1)
    for key in (model_signature_key(1), statement_key(1)):
        federation.store.delete(key)
    sign_it(federation, manifest)
    assert stored(federation, 1) == before


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.LOST_ANSWER])
@pytest.mark.parametrize("write", [1, 2])
def test_killed_at_any_write_it_goes_on_with_the_same_bytes(federation: Federation, fault: Fault, write: int) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    expected = stored(federation, 1)
    for key in (model_signature_key(1), statement_key(1)):
        federation.store.delete(key)
    with FaultyStore(federation.store) as store:
        failing = Federation(store, federation.settings)
        store.arm("put_if_absent", fault, at=write, prefix="releases/")
        with pytest.raises(StorageError):
            sign_it(failing, manifest)
        assert store.num_fired == 1
        sign_it(failing, manifest)
    assert stored(federation, 1) == expected


@pytest.mark.parametrize("key", [model_signature_key(1), statement_key(1)])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff"])
def test_a_damaged_signature_is_written_anew(federation: Federation, key: str, damage: bytes) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    expected = stored(federation, 1)
    etag = federation.store.get_with_etag(key)[1]
    federation.store.compare_and_swap(key, damage, etag=etag)
    assert not is_signed(federation, manifest, SIGNERS)
    sign_it(federation, manifest)
    assert stored(federation, 1) == expected


def test_signatures_of_two_releases_are_not_exchanged(federation: Federation) -> None:
    base, manifest = federation.latest(), fuse_round(federation, 1)
    sign_it(federation, base)
    sign_it(federation, manifest)
    for key_of in (model_signature_key, statement_key):
        there, etag = federation.store.get_with_etag(key_of(1))
        swapped = federation.store.compare_and_swap(key_of(1), federation.store.get(key_of(0)), etag=etag)
        assert not is_signed(federation, manifest, SIGNERS)
        federation.store.compare_and_swap(key_of(1), there, etag=swapped)
        assert is_signed(federation, manifest, SIGNERS)


def test_what_an_abandoned_round_has_signed_gives_way_to_the_next(federation: Federation) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    later = manifest.model_copy(update={"round": 2, "created_at_s": 5.0})
    sign_it(federation, later)
    assert is_signed(federation, later, SIGNERS)
    with pytest.raises(ConflictError, match="later round"):  # who has not noticed that does not take it back
        sign_it(federation, manifest)
    assert is_signed(federation, later, SIGNERS)


def test_a_published_release_keeps_its_signature(federation: Federation) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    lead(federation, 1)
    assert federation.latest() == manifest
    with pytest.raises(ConflictError, match="published by another"):
        sign_it(federation, manifest.model_copy(update={"round": 2}))
    assert is_signed(federation, manifest, SIGNERS)


def test_a_statement_by_another_key_or_about_another_release_is_no_statement(federation: Federation) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    digest = sha256(encode(manifest))
    with pytest.raises(SignatureError, match="is signed by"):
        read_statement_of(federation.store, manifest, digest=digest, keys=[SIGNERS.operator.public])
    other = manifest.model_copy(update={"round": 7})
    with pytest.raises(SignatureError, match="about another release"):
        read_statement_of(federation.store, other, digest=sha256(encode(other)), keys=[SIGNERS.aggregator.public])
    assert read_statement_of(federation.store, federation.latest(), digest=digest, keys=[]) is None


def test_no_secret_is_in_what_is_stored(federation: Federation) -> None:
    manifest = fuse_round(federation, 1)
    sign_it(federation, manifest)
    for key in (SIGNERS.aggregator, SIGNERS.model):
        secret = b"".join(key.pem().splitlines()[1:-1])
        assert not any(secret[:40] in data for data in stored(federation, 1))


def test_a_file_without_a_digest_is_never_left_out(federation: Federation) -> None:
    with pytest.raises(KeyError):
        write_signatures(federation, federation.latest(), {}, signers=SIGNERS, terms=None)
    assert federation.store.head(model_signature_key(0)) is None


def test_without_a_model_key_the_making_alone_is_signed_and_nothing_is_read(federation: Federation) -> None:
    signers = AggregatorOnly(SIGNERS.aggregator)
    manifest = fuse_round(federation, 1)
    assert sign_it(federation, manifest, signers=signers) == []
    assert is_signed(federation, manifest, signers)
    assert not is_signed(federation, manifest, SIGNERS)
    assert federation.store.head(model_signature_key(1)) is None
    statement = read_statement_of(
        federation.store, manifest, digest=sha256(encode(manifest)), keys=[SIGNERS.aggregator.public]
    )
    assert statement is not None
    assert statement.files is None
    sign_it(federation, manifest)  # an aggregator that has the key makes up for it
    assert is_signed(federation, manifest, SIGNERS)
    assert is_signed(federation, manifest, signers)


def test_a_round_points_nobody_to_a_release_that_is_not_signed(federation: Federation) -> None:
    fuse_round(federation, 1)
    with FaultyStore(federation.store) as store:
        signing = Federation(store, federation.settings, signer=AggregatorSigner(
            aggregator=SIGNERS.aggregator, model=SIGNERS.model
        ))  # fmt: skip
        store.arm("put_if_absent", Fault.ERROR, prefix=model_signature_key(1))
        store.arm("put_if_absent", Fault.ERROR, prefix=statement_key(1))
        store.arm("compare_and_swap", Fault.ERROR, prefix="channels/latest")
        for written in range(3):  # killed before each of the three writes, in this order
            with pytest.raises(StorageError):
                lead(signing, 1)
            keys = (model_signature_key(1), statement_key(1))
            assert [federation.store.head(key) is not None for key in keys] == [written > 0, written > 1]
            assert federation.channel("latest").release == 0
        assert store.num_fired == 3
        lead(signing, 1)
    assert federation.channel("latest").release == 1
    assert is_signed(federation, federation.latest(), SIGNERS)


def test_a_federation_without_signers_is_published_as_ever(federation: Federation) -> None:
    fuse_round(federation, 1)
    lead(federation, 1)
    assert federation.channel("latest").release == 1
    assert [key for key in federation.store.list("releases/").keys if key.endswith(".sig")] == []


@pytest.fixture
def rooted(tmp_path: Path, small_parts: int) -> Federation:
    """A federation with a root, as its aggregator opens it."""
    trust = FounderKeys(operators=[SIGNERS.operator], aggregator=SIGNERS.aggregator, model=SIGNERS.model)
    base, rules = write_model(tmp_path / "own" / "base", make_model(), num_files=2), {"quorum": 2, "deadline_s": 60.0}
    return create_federation(
        LocalStore(tmp_path / "rooted"), name="ward", base=base, origin="base", method="mean", rules=rules, trust=trust
    )


@pytest.mark.parametrize("damage", [None, b"", b"{}"])
@pytest.mark.parametrize("key", [model_signature_key(0), statement_key(0)])
def test_who_begins_to_lead_makes_signatures_anew_that_the_store_has_lost(
    rooted: Federation, key: str, damage: bytes | None
) -> None:
    expected = stored(rooted, 0)
    assert not mend_signatures(rooted, ThreadExecutor(1))
    rooted.store.delete(key)
    if damage is not None:
        rooted.store.put_if_absent(key, damage)
    assert mend_signatures(rooted, ThreadExecutor(1))
    assert stored(rooted, 0) == expected


def test_only_what_the_signed_channel_names_is_signed_anew(rooted: Federation) -> None:
    true = rooted.latest()
    other = true.model_copy(update={"created_at_s": 5.0})
    etag = rooted.store.get_with_etag("releases/00000.json")[1]
    rooted.store.compare_and_swap("releases/00000.json", encode(other), etag=etag)  # by who can write to the store
    rooted.objects.put_value(other)
    rooted.store.delete(statement_key(0))
    assert mend_signatures(rooted, ThreadExecutor(1))
    assert is_signed(rooted, true, SIGNERS)
    assert not is_signed(rooted, other, SIGNERS)


def test_without_a_root_or_a_key_nothing_is_signed(rooted: Federation, federation: Federation) -> None:
    rooted.store.delete(statement_key(0))
    assert not mend_signatures(open_federation(rooted.store), ThreadExecutor(1))
    assert not mend_signatures(federation, ThreadExecutor(1))
    assert federation.store.head(statement_key(0)) is None
