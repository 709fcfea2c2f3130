"""A release that is asked for by its number, and was rolled back or replaced since: only signed words count."""

from __future__ import annotations

import pytest
from federation_keys import NOW_S, TinyTrust
from told import Told, trusted

from coldfuse.consumer import taken_back
from coldfuse.consumer.taken_back import TakenBack, find_taken_back
from coldfuse.core.retraction import RetractedStep, Retraction
from coldfuse.core.rollback import Rollback
from coldfuse.core.serialization import encode, sha256
from coldfuse.gateway.signed import require_readable
from coldfuse.registry.rollbacks import rollback_key
from coldfuse.trust.keys import PrivateKey


@pytest.fixture
def told() -> Told:
    told = Told(TinyTrust())
    for number in range(4):
        told.publish(number)
    return told


def find(told: Told, number: int) -> TakenBack | None:
    return find_taken_back(trusted(told), number)


def step_back(told: Told, to: int, *, left: int, reason: str = "", last: Rollback | None = None) -> Rollback:
    """Put the channel back, and keep the step as a store does."""
    step = Rollback(
        number=last.number + 1 if last else 1, release=to, left=left, left_manifest=sha256(told.manifests[left]),
        newest=max(told.manifests), round=left, reason=reason, by="an operator",
        at_s=NOW_S + 60 * (last.number + 1 if last else 1), before=sha256(encode(last)) if last else None,
    )  # fmt: skip
    point(told, to, step)
    told.trust.stored[rollback_key(step.number)] = told.trust.stored["channels/latest"]
    return step


def point(told: Told, number: int, last: Rollback | None) -> None:
    told.trust.point(release=number, manifest=told.manifests[number], rollback=last)


def retract(told: Told, number: int, *, parent: int, replaces: int) -> None:
    """Publish a release that replaces another one, made again on an older parent."""
    retraction = Retraction(
        release=number, replaces=replaces, replaced=sha256(told.manifests[replaces]), left_out=(sha256(b"spam"),),
        steps=(RetractedStep(release=replaces, round=replaces, num_fused=1, num_influenced=0),), influence="none",
        bytes="kept", reason="it was somebody's private data",
    )  # fmt: skip
    told.publish(number, parent=parent, retraction=retraction)


def test_nothing_is_said_where_the_latest_release_was_made_of_it(told):
    assert [find(told, number) for number in range(4)] == [None] * 4


def test_a_rolled_back_release_says_to_which_when_why_and_what_counts_now(told):
    step = step_back(told, 1, left=3, reason="worse on\x1b[2J every set")
    for number in (2, 3):
        found = find(told, number)
        assert found is not None
        assert (found.latest, found.at_s, found.is_certain) == (1, step.at_s, True)
        assert str(found) == (
            f"release {number} was rolled back, to release 1, on 2027-01-15 08:01:00 UTC (worse on?[2J every set); "
            "the federation is at release 1 now"
        )
    assert [find(told, number) for number in (0, 1)] == [None, None]


def test_it_stays_taken_back_when_the_federation_goes_on(told):
    step = step_back(told, 1, left=3)
    told.publish(4, parent=1)
    point(told, 4, step)
    assert [bool(find(told, number)) for number in range(5)] == [False, False, True, True, False]
    assert find(told, 3).latest == 4


def test_the_step_that_took_it_back_is_found_behind_later_ones(told):
    first = step_back(told, 1, left=3, reason="first")
    told.publish(4, parent=1)
    point(told, 4, first)
    second = step_back(told, 0, left=4, reason="second", last=first)
    assert [find(told, number).reason for number in (1, 2, 3, 4)] == ["second", "first", "first", "second"]
    forward = step_back(told, 3, left=0, reason="forward", last=second)
    assert [find(told, number) for number in (1, 2, 3)] == [None] * 3
    assert find(told, 4).reason == "second"
    third = step_back(told, 1, left=3, reason="third", last=forward)
    assert [find(told, number).reason for number in (2, 3)] == ["third", "third"]
    assert third.number == 4


def test_a_step_that_was_forged_or_is_hidden_does_not_count(told):
    first = step_back(told, 1, left=3, reason="first")
    told.publish(4, parent=1)
    point(told, 4, first)
    step_back(told, 0, left=4, reason="second", last=first)
    kept = dict(told.trust.stored)
    forged = first.model_copy(update={"reason": "lies"})
    told.trust.point(release=1, manifest=told.manifests[1], rollback=forged, by=PrivateKey.generate())
    told.trust.stored[rollback_key(1)] = told.trust.stored["channels/latest"]
    told.trust.stored["channels/latest"] = kept["channels/latest"]
    assert find(told, 3).reason == "second"  # the newest that is proven
    for rubbish in (b"", b"{}", b"\xff" * 100, kept["root/1.json"]):
        told.trust.stored[rollback_key(1)] = rubbish
        assert find(told, 3).reason == "second"
    del told.trust.stored[rollback_key(1)]
    assert find(told, 3).reason == "second"


def test_a_release_that_was_replaced_as_something_was_retracted_says_so(told):
    retract(told, 4, parent=1, replaces=3)
    for number in (2, 3):
        assert str(find(told, number)) == (
            f"release {number} was replaced by release 4, without 1 contribution that had to go, on 2027-01-15 "
            "08:00:00 UTC (it was somebody's private data); the federation is at release 4 now"
        )
    assert [find(told, number) for number in (0, 1, 4)] == [None] * 3


def test_what_was_rolled_back_before_a_retraction_was_rolled_back(told):
    step = step_back(told, 1, left=3, reason="worse")
    told.publish(4, parent=1)
    retract(told, 5, parent=1, replaces=4)
    point(told, 5, step)
    assert [find(told, number).reason for number in (2, 3, 4)] == ["worse", "worse", "it was somebody's private data"]


def test_a_candidate_that_waits_was_not_taken_back(told):
    point(told, 2, None)
    assert find(told, 3) is None


def test_who_hides_what_is_signed_is_not_taken_at_his_silence(told):
    step = step_back(told, 1, left=3)
    told.publish(4, parent=1)
    told.publish(5, parent=4)
    point(told, 5, step)
    told.manifests[4] = told.manifests[4].replace(b'"parent":1', b'"parent":3')
    found = find(told, 3)
    assert found is not None
    assert not found.is_certain
    assert str(found).startswith("release 3 may have been taken back, which cannot be told (")
    assert str(found).endswith("the federation is at release 5 now")
    assert "\n" not in str(found)


def test_a_line_that_leads_nowhere_ends(told):
    told.publish(4, parent=4)
    assert find(told, 2) is not None


def test_what_is_far_back_is_not_looked_for_one_manifest_after_the_other(told, monkeypatch):
    monkeypatch.setattr(taken_back, "_MOST_RELEASES", 2)
    assert find(told, 1) is None
    found = find(told, 0)
    assert found is not None
    assert not found.is_certain
    assert "(more than 2 releases came after it; see coldfuse lineage --all)" in str(found)


def test_an_unsigned_source_says_nothing(told):
    step_back(told, 1, left=3)
    assert find_taken_back(told, 3) is None


def test_steps_back_can_be_had_by_key_and_nothing_beside_them():
    require_readable(rollback_key(1))
    for key in ("rollbacks/", "rollbacks/1.json/../../leases/aggregator", "rollbacks/x.json"):
        with pytest.raises(Exception, match="nothing that is signed"):
            require_readable(key)
