"""Taking out what somebody gave: the bytes that come of it, who is told, and what a third party finds."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import wait_until
from retracted_rounds import NAMES, played, seed_of, take_out, verified
from rooted import make_keys
from rooted_rounds import SignedFederation, make_signed_federation
from tiny_rounds import contribute, lead, make_changes, make_contribution, make_model, make_round, read_release, receive

from coldfuse.aggregator.retract import retract
from coldfuse.aggregator.retractable import find_given, plan_retraction
from coldfuse.aggregator.retracting import opening_of
from coldfuse.aggregator.round import advance
from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.contribution import Rejection
from coldfuse.core.retraction import Tombstone
from coldfuse.core.round import Abandoned, Opened
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import encode
from coldfuse.doctor.examine import Examination
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import ColdfuseError, FederationError, FusionError, NotAllowedError, UserInputError
from coldfuse.gateway import Decision, StoreGateway
from coldfuse.gateway.leftovers import find_named
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import read_lease
from coldfuse.registry.moving import promote, roll_back
from coldfuse.registry.records import read_record
from coldfuse.registry.signed import write_signed
from coldfuse.registry.tombstones import FOLDER, Graveyard
from coldfuse.storage import LocalStore
from coldfuse.storage.base import list_keys
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway
from coldfuse.verification.causes import Cause
from coldfuse.verification.remote import recompute_over
from coldfuse.verification.store import Request, verify_store

METHODS = [
    ("mean", "F32"),
    ("mean then nesterov", "BF16"),
    ("mean then fedadam", "F32"),
    ("ties(density=0.5)", "BF16"),
]


def contribution_of(federation: Federation, release: int, name: str) -> str:
    return next(one.contribution for one in federation.release(release).contributions if one.contributor == name)


@pytest.mark.parametrize(("method", "dtype"), METHODS)
def test_what_comes_of_it_is_what_would_have_been_without(tmp_path: Path, method: str, dtype: str) -> None:
    federation = played(tmp_path / "with", method=method, dtype=dtype)
    without = [[name for name in NAMES if name != "ben"]] * 3
    never = played(tmp_path / "never", without, method=method, dtype=dtype)
    done = take_out(federation, "ben")
    assert done.release is not None
    assert done.release.model_digest == never.latest().model_digest
    assert read_release(federation) == read_release(never)
    outer, other = done.release.outer, never.latest().outer
    assert (outer and (outer.age, outer.files)) == (other and (other.age, other.files))
    assert done.release.norms == never.latest().norms


def test_the_release_says_what_it_replaces_and_how_far_that_goes(tmp_path: Path) -> None:
    federation = played(tmp_path)
    one = contribution_of(federation, 2, "ben")
    release = take_out(federation, one[:12]).release
    assert release is not None
    assert release == federation.latest()
    said = release.retraction
    assert said is not None
    assert (release.release, release.parent, release.round) == (4, 1, 4)
    assert (said.replaces, said.left_out, [step.round for step in said.steps]) == (3, (one,), [2, 3])
    assert (said.fusion, said.influence, said.num_influenced, said.bytes) == ("exact", "remains", 3, "kept")
    assert len(release.contributions) == 5
    assert one not in {fused.contribution for fused in release.contributions}


def test_of_the_latest_round_no_influence_is_left(tmp_path: Path) -> None:
    federation = played(tmp_path)
    release = take_out(federation, contribution_of(federation, 3, "cy")).release
    assert release is not None
    assert release.retraction is not None
    assert (release.parent, release.retraction.influence) == (2, "none")


def test_rounds_of_which_nothing_is_left_are_passed_over(tmp_path: Path) -> None:
    federation = played(tmp_path, [["ada"], ["ben"], ["ben"], ["ada", "ben"]])
    never = played(tmp_path / "never", [["ada"], [], [], ["ada"]][:1])
    lead(never, 2)
    contribute(never, "ada", make_changes(make_model(), seed_of(4, "ada")))
    lead(never, 2)
    assert take_out(federation, "ben").release is not None
    assert federation.latest().model_digest == never.latest().model_digest
    assert verified(federation).recomputed[0].agrees


def test_where_nothing_is_left_at_all_the_release_before_comes_back_under_a_new_number(tmp_path: Path) -> None:
    federation = played(tmp_path, [["ada"], ["ben"]])
    release = take_out(federation, "ben").release
    assert release is not None
    assert (release.release, release.parent, release.contributions, release.moved) == (3, 1, (), 0.0)
    assert release.model_digest == federation.release(1).model_digest
    assert verified(federation).recomputed[0].agrees
    lead(federation, 4)
    contribute(federation, "cy", make_changes(make_model(), 77))
    lead(federation, 4)
    assert (federation.latest().release, federation.latest().parent) == (4, 3)


def test_one_after_the_other_is_as_both_at_once(tmp_path: Path) -> None:
    federation = played(tmp_path / "one")
    for number, name in ((4, "ben"), (6, "cy")):
        take_out(federation, name)
        lead(federation, number + 1)
        contribute(federation, "ada", make_changes(make_model(), 100 + number))
        lead(federation, number + 1)
    never = played(tmp_path / "never", [["ada"]] * 3)
    for number, seed in ((4, 104), (5, 106)):
        lead(never, number)
        contribute(never, "ada", make_changes(make_model(), seed))
        lead(never, number)
    assert federation.latest().model_digest == never.latest().model_digest
    assert [one.agrees for one in verified(federation).recomputed] == [True, True]


def test_a_round_that_runs_ends_and_everybody_is_told(tmp_path: Path) -> None:
    federation = played(tmp_path, opens=True, quorum=3)
    sent = contribute(federation, "ada", make_changes(make_model(), 50))
    lead(federation, 4)
    late = contribute(federation, "cy", make_changes(make_model(), 51))
    release = take_out(federation, "ben").release
    assert release is not None
    assert (release.round, federation.current_round()) == (5, 6)
    lead(federation, 4)
    lead(federation, 6)
    opened = federation.journal(6).state().opened
    assert opened is not None
    assert (opened.base_release, opened.carried) == (4, ())
    assert not [one for one in opened.past if one.base_release > 0]  # nobody is late on a base that is gone
    with StoreGateway(federation) as gateway:
        for contribution in (sent, late):
            verdict = gateway.verdict(4, contribution)
            assert verdict.decision is Decision.REJECTED
            assert verdict.is_late
        assert "fetch that, train on it" in gateway.verdict(4, sent).reason


def test_what_was_trained_on_a_base_that_is_gone_is_taken_by_no_round(tmp_path: Path) -> None:
    federation = played(tmp_path, late="rebase", staleness="polynomial(a=0.5)", opens=True, quorum=2)
    base = {"base_release": 3, "base_digest": federation.latest().model_digest}
    take_out(federation, "ben")
    lead(federation, 6)
    receive(federation, make_contribution(federation, "cy", make_changes(make_model(), 60), **base))
    events = lead(federation, 6)
    [rejected] = [one for event in events for one in getattr(event, "rejections", ())]
    assert isinstance(rejected, Rejection)
    assert "release 4" in rejected.reason or "base" in rejected.reason


def test_late_contributions_weigh_what_they_weighed(tmp_path: Path) -> None:
    federation, never = (
        played(tmp_path / where, [names, names], late="rebase", staleness="polynomial(a=0.5)", opens=True)
        for where, names in (("with", ["ada", "ben"]), ("never", ["ada"]))
    )
    for each in (federation, never):
        old = {"base_release": 1, "base_digest": each.release(1).model_digest}
        receive(each, make_contribution(each, "cy", make_changes(make_model(), 70), **old))
        lead(each, 3, now_s=9.0)
        assert each.latest().contributions[0].staleness_weight not in (None, 1.0)
    take_out(federation, "ben")
    assert federation.latest().model_digest == never.latest().model_digest
    assert federation.latest().contributions[-1].staleness_weight == never.latest().contributions[0].staleness_weight


def begin(federation: Federation) -> tuple[Opened, bytes]:
    """Open a retraction's round as who is killed then, and return what would have come of it."""
    plan = plan_retraction(federation, "ben", reason="asked for it", erases=False)
    assert plan is not None
    opened = opening_of(federation, plan.retraction, parent=plan.parent, now_s=5.0)
    federation.journal(4).append(opened)
    return opened, encode(plan.retraction)


def test_whoever_leads_finishes_what_another_was_killed_in(tmp_path: Path) -> None:
    federation = played(tmp_path)
    begin(federation)
    names = [event.event for event in lead(federation, 4)]
    assert names == ["closed", "fused", "published"]
    release = federation.latest()
    assert release.created_at_s == 5.0
    assert release.retraction is not None
    again = take_out(federation, "ben")
    assert again.release is None


def test_running_it_again_finishes_and_makes_the_same(tmp_path: Path) -> None:
    federation = played(tmp_path / "a")
    copy = open_federation(LocalStore(shutil.copytree(federation.store.url, tmp_path / "b")))
    begin(federation)
    lead(federation, 4)
    begin(copy)
    assert take_out(copy, "ben").release is None  # it has finished what was begun
    assert encode(copy.latest()) == encode(federation.latest())


def test_a_round_that_takes_something_out_takes_nothing_in(tmp_path: Path) -> None:
    federation = played(tmp_path)
    begin(federation)
    with StoreGateway(federation) as gateway:
        status = gateway.status()
        assert not status.round.is_open
        assert "takes no contributions" in status.round.waits_for
    assert federation.journal(4).state().is_open is False


def test_a_retraction_that_cannot_be_finished_ends_and_the_base_stays(tmp_path: Path) -> None:
    federation = played(tmp_path)
    begin(federation)
    federation.store.delete(f"objects/{contribution_of(federation, 2, 'ada')}")
    [*_, last] = lead(federation, 4)
    assert isinstance(last, Abandoned)
    assert last.reason.startswith("nothing is retracted")
    assert federation.latest().release == 3
    lead(federation, 5)
    contribute(federation, "cy", make_changes(make_model(), 90))
    lead(federation, 5)
    assert federation.latest().release == 4


def test_who_led_waits_and_goes_on_from_the_new_release(tmp_path: Path) -> None:
    federation = played(tmp_path, opens=True, quorum=2)
    running = make_round(federation, 4)
    contribute(federation, "ada", make_changes(make_model(), 50))
    advance(running)  # it has read and written before
    take_out(federation, "ben")
    assert advance(running) == []
    assert federation.journal(4).state().abandoned is not None
    record, _ = read_lease(federation.store)
    assert record is not None
    assert record.holder == ""


def snapshot(federation: Federation) -> dict[str, bytes]:
    return {key: federation.store.get(key) for key in list_keys(federation.store, "")}


def lose(key: Callable[[Federation], str]) -> Callable[[Federation], None]:
    return lambda federation: federation.store.delete(f"objects/{key(federation)}")


@pytest.mark.parametrize(
    ("break_it", "target", "error", "why"),
    [
        (lambda _: None, "nobody", UserInputError, "no release was made from"),
        (lambda _: None, "00000000", UserInputError, "no release was made from"),
        (lose(lambda f: contribution_of(f, 3, "ada")), "ben", FederationError, "not in the store any more"),
        (
            lose(lambda f: next(iter(f.release(0).files["model.safetensors"].parts)).digest),
            "ben",
            FederationError,
            "release 0 is not whole",
        ),
    ],
    ids=["unknown", "no such digest", "a delta is gone", "the base is gone"],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    tmp_path: Path, break_it: Callable[[Federation], None], target: str, error: type[ColdfuseError], why: str
) -> None:
    federation = played(tmp_path)
    break_it(federation)
    before = snapshot(federation)
    with pytest.raises(error, match=why):
        take_out(federation, target)
    assert snapshot(federation) == before


def test_what_a_method_refuses_changes_nothing_that_anybody_sees(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES], method="multi-krum(byzantine=0, selected=3)", quorum=3)
    before = snapshot(federation)
    with pytest.raises(FusionError, match="cannot be fused without it"):
        take_out(federation, "ben")
    after = {key: data for key, data in snapshot(federation).items() if not key.startswith(("objects/", "leases/"))}
    assert after == {key: data for key, data in before.items() if not key.startswith("objects/")}


def test_erased_bytes_are_gone_and_said_to_be_retracted(tmp_path: Path) -> None:
    federation = played(tmp_path)
    one = contribution_of(federation, 2, "ben")
    done = take_out(federation, "ben", erases=True)
    assert done.erased is not None
    assert done.erased.num_contributions == 3
    assert not federation.objects.is_there(one)
    assert Graveyard(federation).covers(one)
    assert not Graveyard(federation).covers(contribution_of(federation, 2, "ada"))
    [key] = list_keys(federation.store, FOLDER)
    assert b"ben" not in federation.store.get(key)
    assert one.encode() not in federation.store.get(key)
    assert Examination(federation).run().is_sound
    report = verified(federation)
    assert {finding.cause for finding in report.findings} == {Cause.UNSIGNED}
    assert any("retracted" in note for note in report.notes)
    assert [one.agrees for one in report.recomputed] == [True]
    assert find_named(federation.store, [one], erased=Graveyard(federation).covers) == {one}  # journals name it still
    again = take_out(federation, "ben", erases=True)
    assert again.erased is not None
    assert again.erased.num_objects == 0
    assert len(list(list_keys(federation.store, FOLDER))) == 1


def test_an_older_release_that_held_what_was_erased_is_not_said_to_be_forged(tmp_path: Path) -> None:
    federation = played(tmp_path)
    take_out(federation, "ben", erases=True)
    report = verify_store(federation.store, Request(at_s=0.0, executor=ThreadExecutor(1), release=3, is_alone=True))
    [found] = report.recomputed
    assert found.agrees is None
    assert "retracted since, and erased" in found.why


def test_bytes_that_another_contribution_has_too_stay(tmp_path: Path) -> None:
    federation = played(tmp_path, [["ada", "cy"]], opens=True, quorum=2, screening=ScreeningRules.off())
    manifest = make_contribution(federation, "ben", make_changes(make_model(), 20))
    receive(federation, manifest)
    receive(federation, manifest.model_copy(update={"contributor": "cy", "num_examples": 7}))
    lead(federation, 2, now_s=9.0)
    assert len(federation.latest().contributions) == 2
    done = take_out(federation, "ben", erases=True)
    assert done.erased is not None
    assert done.erased.num_spared == len(manifest.parts)
    assert all(federation.objects.has(part.digest, part.size_bytes) for part in manifest.parts)
    assert verified(federation).recomputed[0].agrees


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> SignedFederation:
    made = make_signed_federation(tmp_path_factory.mktemp("signed"), rounds=3, is_auditable=True)
    take_out(made.federation, "ben", erases=True)
    return made


def test_with_a_root_all_of_it_is_signed(signed: SignedFederation, tmp_path: Path) -> None:
    copy = Federation(LocalStore(shutil.copytree(signed.store.url, tmp_path / "copy")), signed.federation.settings)
    report = verified(copy, fingerprint=signed.keys.fingerprint)
    assert report.status(strict=True) == 0, [str(one) for one in report.findings]
    assert [(one.release, one.agrees) for one in report.recomputed] == [(4, True)]


def test_a_member_fuses_it_again_over_a_gateway(signed: SignedFederation) -> None:
    with serve_gateway(signed.federation) as gateway:
        client = GatewayClient(gateway.address, identity=signed.identities["ada"])
        with TrustedGateway(client, anchor=signed.keys.fingerprint, identity=signed.identities["ada"]) as trusted:
            found = recompute_over(trusted, 4, executor=ThreadExecutor(1), now_s=time.time())
    assert found.agrees, found.why


def test_a_tombstone_that_nobody_has_signed_covers_nothing(signed: SignedFederation, tmp_path: Path) -> None:
    store = LocalStore(shutil.copytree(signed.store.url, tmp_path / "copy"))
    federation = open_federation(store)
    [key] = list_keys(store, FOLDER)
    payload = encode(read_record(federation, key, "tombstone", Tombstone))
    store.delete(key)
    store.put_if_absent(key, write_signed(payload, "tombstone", [make_keys().aggregator]))
    assert not Graveyard(federation).covers(contribution_of(federation, 2, "ben"))
    report = verified(federation, fingerprint=signed.keys.fingerprint, recompute=False)
    assert {finding.cause for finding in report.findings} == {Cause.UNKNOWN_KEY, Cause.GAP}


def test_who_has_no_key_of_the_aggregator_takes_nothing_out(signed: SignedFederation) -> None:
    stranger = open_federation(signed.store)
    with pytest.raises(NotAllowedError, match="key"):
        take_out(stranger, "ada")


def test_steps_that_were_left_out_in_secret_are_found(tmp_path: Path) -> None:
    federation = played(tmp_path)
    plan = plan_retraction(federation, "ben", reason="asked for it", erases=False)
    assert plan is not None
    short = plan.retraction.model_copy(update={"steps": plan.retraction.steps[:2]})
    federation.journal(4).append(opening_of(federation, short, parent=plan.parent, now_s=5.0))
    lead(federation, 4)
    assert federation.latest().release == 4
    [found] = verified(federation).recomputed
    assert found.agrees is False
    assert "follows from" in found.why


def test_given_is_found_by_name_digest_and_the_beginning_of_one(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES, NAMES])
    assert len(find_given(federation, "ben").fused) == 2
    one = contribution_of(federation, 1, "ben")
    for target in (one, one[:12]):
        assert [each.contribution for each in find_given(federation, target).fused] == [one]


def test_an_aggregator_that_runs_waits_and_goes_on(tmp_path: Path) -> None:
    federation = played(tmp_path, [NAMES, NAMES], quorum=1)
    stop, said = threading.Event(), list[str]()
    settings = AggregatorSettings(poll_s=0.02, lease_ttl_s=0.5)

    def serve() -> None:
        events = serve_rounds(
            open_federation(federation.store), ThreadExecutor(1), settings, stop=stop, announce=said.append
        )
        assert list(events)

    running = threading.Thread(target=serve)
    running.start()
    try:
        wait_until(lambda: federation.journal(3).head() is not None, "an open round")
        done = retract(federation, "ben", ThreadExecutor(1), reason="asked for it")  # it waits, as commands do
        assert done.release is not None
        wait_until(lambda: federation.journal(5).head() is not None, "a round after it")
        contribute(federation, "ada", make_changes(make_model(), 80))
        wait_until(lambda: federation.latest().release == 4, "a release")
    finally:
        stop.set()
        running.join()
    assert federation.latest().parent == 3
    assert sum(line.startswith("leading as ") for line in said) == 2
    assert any(line.startswith("waiting: retract ") for line in said)


def test_going_back_brings_nothing_back_that_was_retracted_unless_that_is_said(tmp_path: Path) -> None:
    federation = played(tmp_path)
    take_out(federation, "ben")
    before = federation.store.get("channels/latest")
    for number in (1, 3):
        with pytest.raises(UserInputError, match=f"release {number} was made with what was retracted since"):
            roll_back(federation, number, reason="", by="", signer=None)
        with pytest.raises(UserInputError, match=f"release {number} was made with what was retracted since"):
            promote(federation, number, signer=None)  # and is not told to put that back first
    assert federation.store.get("channels/latest") == before
    roll_back(federation, 0, reason="", by="", signer=None)  # of before anybody gave anything
    roll_back(federation, 4, reason="", by="", signer=None)  # and the one without it
    roll_back(federation, 3, reason="a mistake", by="", signer=None, even_retracted=True)
    roll_back(federation, 2, reason="", by="", signer=None)  # the latest holds it anyway
    assert federation.latest().release == 2


def test_a_release_that_cannot_be_read_keeps_nobody_from_going_back(tmp_path: Path) -> None:
    federation = played(tmp_path)
    (tmp_path / "store" / "releases" / "00002.json").write_bytes(b"{}")
    roll_back(federation, 1, reason="", by="", signer=None)
    assert federation.latest().release == 1
