"""Rounds of a federation with a root: whom the aggregator believes, and what it signs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rooted import RootedFederation, make_keys
from tiny_rounds import lead, make_changes, make_contribution, make_model

from coldfuse.aggregator.judging import screening_of
from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.screen import screen
from coldfuse.core.contribution import Admission
from coldfuse.core.round import Abandoned, Admitted, Closed, Fused, LeaderEvent, Opened, Published
from coldfuse.core.signature import Signature
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import NotAllowedError, WorkerLostError
from coldfuse.gateway.rounds import Rounds, describe_round
from coldfuse.registry.federation import open_federation
from coldfuse.trust.founding import AggregatorSigner
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import Quota

MODEL = make_model()


@pytest.fixture
def made(tmp_path: Path) -> RootedFederation:
    return RootedFederation(tmp_path, rules={"quorum": 1, "deadline_s": 60.0})


def open_round(made: RootedFederation, number: int = 1) -> None:
    lead(made.opened(), number, now_s=time.time())


def verdict(made: RootedFederation, contribution: str, number: int = 1) -> str:
    """Return what the aggregator says of a contribution."""
    state = made.opened(leads=False).journal(number).state()
    if contribution in state.admitted:
        return "admitted"
    return state.rejected[contribution].reason if contribution in state.rejected else "waits"


def test_what_a_member_has_signed_is_fused_and_published(made: RootedFederation) -> None:
    ada = made.enroll("ada")
    open_round(made)
    digest = made.send("ada", make_changes(MODEL, 0), ada)
    events = lead(made.opened(), 1)
    assert [type(event) for event in events][-1] is Published
    assert verdict(made, digest) == "admitted"
    assert made.opened(leads=False).channel("latest").release == 1


def test_nobody_waits_for_who_was_revoked(made: RootedFederation) -> None:
    members = {name: made.enroll(name) for name in ("ada", "bob")}
    open_round(made)
    for seed, name in enumerate(members):
        made.send(name, make_changes(MODEL, seed), members[name])
    lead(made.opened(), 1)
    made.revoke("bob", since_s=time.time())
    open_round(made, 2)
    opened = made.opened(leads=False).journal(2).state().opened
    assert opened is not None
    assert [one.contributor for one in opened.active] == ["ada"]


def test_a_round_may_wait_for_everybody_enrolled_even_if_they_were_so_since_it_opened(tmp_path: Path) -> None:
    made = RootedFederation(tmp_path, rules={"quorum": 1, "deadline_s": 60.0, "close": "all"})
    open_round(made)  # nobody is enrolled yet
    members = {name: made.enroll(name) for name in ("ada", "bob", "cy")}
    made.enroll("eve", "evaluator")  # who sends nothing
    made.send("ada", make_changes(MODEL, 0), members["ada"])
    assert not any(isinstance(event, Closed) for event in lead(made.opened(), 1))
    status = describe_round(made.opened().settings.rules, Rounds(made.opened(leads=False)).standing())
    assert (status.num_missing, status.num_active) == (2, 3)
    made.send("bob", make_changes(MODEL, 1), members["bob"])
    made.revoke("cy")
    events = lead(made.opened(), 1)
    assert [len(event.contributions) for event in events if isinstance(event, Closed)] == [2]


def stranger(made: RootedFederation) -> Identity:
    return Identity("ada", made.keys.fingerprint, PrivateKey.generate())


def with_other_key(made: RootedFederation) -> Identity:
    made.enroll("ada")
    return stranger(made)


def other_member(made: RootedFederation) -> Identity:
    made.enroll("ada")
    return made.enroll("bob")


def revoked(made: RootedFederation) -> Identity:
    ada = made.enroll("ada")
    made.revoke("ada", since_s=time.time() - 1, reason="stolen")
    return ada


def of_another_federation(made: RootedFederation) -> Identity:
    made.enroll("ada")
    return RootedFederation(made.path / "other").enroll("ada")


SENDERS: dict[str, tuple[Callable[[RootedFederation], Identity | None], str]] = {
    "nobody": (lambda made: made.enroll("ada") and None, "is not signed"),
    "a stranger": (stranger, "is no member of this federation"),
    "another key": (with_other_key, "is none of this member's"),
    "another member": (other_member, "is none of this member's"),
    "another federation's": (of_another_federation, "is none of this member's"),
    "a consumer": (lambda made: made.enroll("ada", "consumer"), "only a contributor or operator may contribute"),
    "an evaluator": (lambda made: made.enroll("ada", "evaluator"), "only a contributor or operator may contribute"),
    "a revoked one": (revoked, "has revoked ada (stolen)"),
    "an expired one": (lambda made: made.enroll("ada", valid_until_s=time.time() - 1), "of ada had expired"),
    "one over its quota": (lambda made: made.enroll("ada", quota=Quota(contribution_bytes=10)), "may send 10"),
}


@pytest.mark.parametrize("who", SENDERS)
def test_what_no_member_may_send_is_rejected_with_the_reason(made: RootedFederation, who: str) -> None:
    make, reason = SENDERS[who]
    open_round(made)
    digest = made.send("ada", make_changes(MODEL, 0), make(made))
    lead(made.opened(), 1)
    assert reason in verdict(made, digest)
    assert made.opened(leads=False).channel("latest").release == 0


def test_one_that_nobody_signed_takes_no_members_place(made: RootedFederation) -> None:
    ada = made.enroll("ada")
    open_round(made)
    forged = made.send("ada", make_changes(MODEL, 1), None, at_s=0.0)
    real = made.send("ada", make_changes(MODEL, 0), ada)
    lead(made.opened(), 1)
    assert (verdict(made, real), "is not signed" in verdict(made, forged)) == ("admitted", True)


def test_a_revocation_takes_back_what_was_sent_since_in_the_running_round(made: RootedFederation) -> None:
    ada, bob = made.enroll("ada"), made.enroll("bob")
    federation = made.opened()
    federation.journal(1).append(
        Opened(base_release=0, base_digest=federation.latest().model_digest, opened_at_s=time.time() - 100,
               terms=federation.settings.terms.model_copy(
                   update={"rules": federation.settings.rules.model_copy(update={"quorum": 3})}))
    )  # fmt: skip
    now_s = time.time()
    early = made.send("ada", make_changes(MODEL, 0), ada, at_s=now_s - 50)
    late = made.send("bob", make_changes(MODEL, 1), bob, at_s=now_s - 10)
    lead(made.opened(), 1)
    assert (verdict(made, early), verdict(made, late)) == ("admitted", "admitted")
    made.revoke("ada", since_s=now_s - 20)
    made.revoke("bob", since_s=now_s - 20)
    lead(made.opened(), 1)
    assert verdict(made, early) == "admitted"
    assert "has revoked bob" in verdict(made, late)


def test_a_gateways_word_on_the_time_brings_back_nothing_from_before_the_round(made: RootedFederation) -> None:
    ada = made.enroll("ada")
    open_round(made)
    made.revoke("ada", since_s=time.time() - 1000)
    digest = made.send("ada", make_changes(MODEL, 0), ada, at_s=1.0)
    lead(made.opened(), 1)
    assert "has revoked ada" in verdict(made, digest)


def test_a_revocation_takes_back_what_is_carried(made: RootedFederation) -> None:
    ada = made.enroll("ada")
    federation = made.opened()
    terms = federation.settings.terms.model_copy(
        update={"rules": federation.settings.rules.model_copy(update={"quorum": 3})}
    )
    federation.journal(1).append(
        Opened(base_release=0, base_digest=federation.latest().model_digest, opened_at_s=time.time(), terms=terms)
    )
    digest = made.send("ada", make_changes(MODEL, 0), ada)
    lead(made.opened(), 1)
    events = lead(made.opened(), 1, now_s=1000.0)
    assert isinstance(events[-1], Abandoned)
    made.revoke("ada", since_s=0.0)
    lead(made.opened(), 2)
    state = made.opened(leads=False).journal(2).state()
    assert "has revoked ada" in state.rejected[digest].reason
    assert state.admitted == {}


class LyingExecutor(ThreadExecutor):
    """Workers in somebody else's hands: what they say of a contribution is changed on its way."""

    def __init__(self, **lie: object) -> None:
        super().__init__(1)
        self._lie = lie

    def run(self, task: Any, shared: Any, items: Sequence[Any], **more: Any) -> Iterator[Any]:
        for index, result in super().run(task, shared, items, **more):
            yield index, result.model_copy(update=self._lie) if isinstance(result, Admission) else result


@pytest.mark.parametrize("lie", [{"num_examples": 10**6}, {"contributor": "bob"}, {"delta_digest": "1" * 64},
                                 {"score": 1.0}])  # fmt: skip
def test_what_a_worker_says_is_held_against_what_was_signed(made: RootedFederation, lie: dict[str, object]) -> None:
    ada = made.enroll("ada")
    open_round(made)
    digest = made.send("ada", make_changes(MODEL, 0), ada)
    with pytest.raises(WorkerLostError, match="take that worker away"):
        lead(made.opened(), 1, executor=LyingExecutor(**lie))
    assert verdict(made, digest) == "waits"
    lead(made.opened(), 1)
    assert verdict(made, digest) == "admitted"


def test_what_a_worker_says_of_nothing_that_was_sent_is_passed_over(made: RootedFederation) -> None:
    ada = made.enroll("ada")
    open_round(made)
    made.send("ada", make_changes(MODEL, 0), ada)
    lead(made.opened(), 1, executor=LyingExecutor(contribution="1" * 64))
    assert made.opened().journal(1).state().admitted == {}


def test_an_aggregator_without_the_key_leads_nothing(made: RootedFederation) -> None:
    with pytest.raises(NotAllowedError, match="has the key"):
        open_federation(made.store, signer=make_keys().signer)


@pytest.mark.parametrize("last", ["opened", "admitted", "closed", "fused"])
def test_who_has_stolen_a_key_that_was_replaced_has_nothing_published(made: RootedFederation, last: str) -> None:
    old, new = made.keys.aggregator, PrivateKey.generate()
    made.rotate_aggregator(new)
    honest = replace(made.opened(leads=False), signer=AggregatorSigner(aggregator=new, model=made.keys.model))
    honest.mended_latest()

    thief, eve = replace(made.opened(leads=False), signer=AggregatorSigner(aggregator=old)), "eve"
    digest, base = made.send(eve, make_changes(MODEL, 1), None), honest.latest()
    opened = Opened(base_release=0, base_digest=base.model_digest, opened_at_s=time.time(), terms=thief.settings.terms)
    screening = screening_of(made.store.url, open_base(thief, base), round_number=1, opened=opened)
    found = screen(screening, (digest, eve))
    assert isinstance(found, Admission)
    admission = found.model_copy(
        update={"signature": Signature(keyid="0" * 64, sig="AAAA"), "signed_at_s": time.time()}
    )
    planted = base.model_copy(update={"release": 1, "parent": 0, "round": 1})
    events: list[LeaderEvent] = [
        opened, Admitted(admissions=(admission,)), Closed(contributions=(digest,), reason="quorum"),
        Fused(manifest=thief.objects.put_value(planted), model_digest=planted.model_digest, moved=1),
    ]  # fmt: skip
    journal = thief.journal(1)
    journal.state()
    for event in events[: ["opened", "admitted", "closed", "fused"].index(last) + 1]:
        journal.append(event)

    written = lead(honest, 1, now_s=time.time())
    assert any(isinstance(event, Abandoned) for event in written)
    told = honest.journal(1).state().rejected[digest]  # whose contribution was honest sends it again
    assert told.is_late
    assert "send it again" in told.reason or last == "opened"
    lead(honest, 2, now_s=time.time())
    assert honest.latest().release == 0
    assert not honest.journal(2).state().admitted
    ada = made.enroll("ada")
    made.receive(make_contribution(honest, "ada", make_changes(MODEL, 2), round=2), ada)
    lead(honest, 2, now_s=time.time())
    assert [one.contributor for one in honest.latest().contributions] == ["ada"]
