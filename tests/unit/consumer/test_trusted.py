"""What is believed of a gateway: what the federation's keys have signed, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from federation_keys import NOW_S, TinyTrust

from coldfuse.consumer.belief import FRESH_S, Belief
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.federation import Adopted, FederationSettings, RoundRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Admitted, Closed, LeaderEvent, Opened, Rejected
from coldfuse.core.serialization import encode, sha256
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import CodecError, FederationError, RollbackError, SignatureError
from coldfuse.gateway import ContributionVerdict, Decision, Gateway, ReleaseName, RoundStatus, Status
from coldfuse.registry.chain import Link
from coldfuse.trust.envelope import sign
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.provenance import statement_of
from coldfuse.trust.seen import Memory

CONTRIBUTION, OTHER = sha256(b"a contribution"), sha256(b"another")


@dataclass
class Told(Gateway):
    """A gateway that says what it is told to say."""

    trust: TinyTrust
    manifests: dict[int, bytes] = field(default_factory=dict)
    verdicts: dict[str, ContributionVerdict] = field(default_factory=dict)
    entries: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    statistics: StatisticsRule = field(default_factory=StatisticsRule)

    def read_signed(self, key: str) -> bytes | None:
        self.asked.append(key)
        return self.trust.stored.get(key)

    def release_bytes(self, which: int | str = "latest") -> bytes:
        assert isinstance(which, int)
        return self.manifests[which]

    def status(self) -> Status:
        newest = max(self.manifests)
        name = ReleaseName(
            number=newest, model_digest=sha256(b"model"), manifest_digest=sha256(self.manifests[newest])
        )  # fmt: skip
        round_ = RoundStatus(
            number=1, is_open=True, num_received=0, num_admitted=0, num_rejected=0, contributors=(), waits_for=""
        )
        return Status(
            protocol_version=1, layout_version=2, federation=self.trust.fingerprint, name="tiny", method="mean",
            rules=RoundRules(), max_contribution_bytes=1, latest=name, round=round_, poll_after_s=1.0,
            statistics=self.statistics,
        )  # fmt: skip

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        return self.verdicts[contribution]

    def verdict_entry(self, round_number: int, contribution: str) -> bytes | None:
        return self.entries.get(contribution)

    def publish(self, number: int, *, by: PrivateKey | None = None, **different: object) -> bytes:
        """Publish a release, with its statement, as the latest."""
        values: dict[str, object] = {
            "federation": self.trust.fingerprint, "release": number, "parent": number - 1 if number else None,
            "round": number, "method": "mean", "model_digest": sha256(b"model"), "files": {}, "created_at_s": NOW_S,
        }  # fmt: skip
        manifest = ReleaseManifest.model_validate(values | different)
        data = self.manifests[number] = encode(manifest)
        parent = sha256(self.manifests[number - 1]) if number else None
        statement = statement_of(
            manifest, digest=sha256(data), parent=parent, files=sha256(b"files"), terms=None, journal_head=None
        )
        self.trust.stored[f"releases/{number:05d}.sig"] = sign(statement, "provenance", [by or self.trust.aggregator])
        self.trust.point(release=number, manifest=data)
        return data

    def decide(self, event: LeaderEvent, *, by: PrivateKey | None = None, **different: object) -> None:
        """Hand out an entry as the one that decides."""
        values: dict[str, object] = {
            "seq": 3, "entry": event, "federation": self.trust.fingerprint, "round": 1, "before": None
        }  # fmt: skip
        link = Link.model_validate(values | different)
        self.entries[CONTRIBUTION] = sign(encode(link), "journal", [by or self.trust.aggregator])


@pytest.fixture
def told() -> Told:
    return Told(TinyTrust())


def trusted(told: Told, **options: object) -> TrustedGateway:
    return TrustedGateway(told, anchor=told.trust.fingerprint, clock=lambda: NOW_S, **options)  # type: ignore[arg-type]


def test_releases_by_channel_by_number_and_in_the_history(told: Told) -> None:
    manifests = [told.publish(number) for number in range(3)]
    gateway = trusted(told)
    assert gateway.release_bytes() == manifests[2]
    assert [gateway.release(number).release for number in (0, 1, 2)] == [0, 1, 2]
    assert [summary.name.number for summary in gateway.releases()] == [2, 1, 0]
    assert [summary.name.number for summary in gateway.releases(before=2)] == [1, 0]


def test_a_release_that_was_asked_for_by_number_is_signed(told: Told) -> None:
    for number in range(3):
        told.publish(number)
    gateway = trusted(told)
    del told.trust.stored["releases/00001.sig"]
    told.trust.stored["federation.json"] = settings(told.trust)
    with pytest.raises(SignatureError, match="release 1: no signature is handed out with it, expected"):
        gateway.release(1)
    told.trust.stored["releases/00001.sig"] = told.trust.stored["releases/00000.sig"]
    with pytest.raises(SignatureError, match="is about another release"):
        gateway.release(1)


def settings(trust: TinyTrust, **different: object) -> bytes:
    values: dict[str, object] = {
        "federation": trust.fingerprint, "root": trust.fingerprint, "name": "tiny", "rules": RoundRules(),
        "method": "mean", "created_at_s": 1.0, "base": "base", "release_zero": sha256(b"zero"),
    }  # fmt: skip
    found = FederationSettings.model_validate(values | different)
    return sign(encode(found), "federation", [trust.operator])


def test_a_federation_that_was_adopted_keeps_its_name_and_its_unsigned_releases(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    name = sha256(b"the name of before")
    for number in range(4):
        told.publish(number, federation=name)
    adopted = Adopted(round=1, release=1)
    told.trust.stored["federation.json"] = settings(told.trust, federation=name, adopted=adopted)
    for number in (0, 1, 2):
        del told.trust.stored[f"releases/{number:05d}.sig"]
    gateway = trusted(told)
    assert gateway.release(3).federation == name
    assert (gateway.release(1).release, "nobody has signed it" in caplog.text) == (1, True)
    with pytest.raises(SignatureError, match="release 2: no signature"):
        gateway.release(2)


def test_what_a_replaced_key_has_signed_is_listed_no_more(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.publish(0)
    told.publish(1)
    told.trust.aggregator = PrivateKey.generate()
    told.trust.rotate()
    told.publish(2)
    gateway = trusted(told)
    assert [summary.name.number for summary in gateway.releases()] == [2]
    assert "release 1" in caplog.text
    with pytest.raises(SignatureError, match=r"release 1 \(aggregator's\): is signed by"):
        gateway.release(1)
    assert gateway.read_signed("releases/00001.sig") is not None  # what it was made from is history
    told.trust.stored["releases/00001.sig"] = sign(b"{}", "provenance", [PrivateKey.generate()])
    with pytest.raises(SignatureError):
        gateway.read_signed("releases/00001.sig")


def test_a_channel_that_is_fresh_is_not_asked_for_again(told: Told) -> None:
    told.publish(0)
    belief = Belief(told.read_signed, fingerprint=told.trust.fingerprint, memory=Memory(), clock=lambda: NOW_S)
    belief.channel("latest", max_age_s=FRESH_S)
    told.asked.clear()
    assert belief.channel("latest", max_age_s=FRESH_S).release == 0
    assert told.asked == []
    belief.channel("latest")
    assert "channels/latest" in told.asked


def test_the_newest_list_of_members_is_found_from_the_one_that_the_channel_names(told: Told) -> None:
    for number in range(40):
        told.trust.invite(f"member-{number}")
    told.publish(0)
    asked = trusted(told).belief.known()
    assert asked.members.version == 41
    assert [key for key in told.asked if key.startswith("members/")] == ["members/41.json", "members/42.json"]


def test_members_that_were_seen_are_missed_though_no_channel_names_them(told: Told, tmp_path: Path) -> None:
    told.publish(0)
    told.trust.invite("ada")
    folder = FederationFolder(tmp_path, told.trust.fingerprint)
    assert trusted(told, folder=folder).belief.known().members.version == 2
    del told.trust.stored["members/2.json"]
    with pytest.raises(RollbackError, match="members 2: was seen before"):
        trusted(told, folder=folder).release()


def test_members_that_a_stolen_key_has_counted_ahead_end_with_that_key(told: Told, tmp_path: Path) -> None:
    told.publish(0)
    folder, here = FederationFolder(tmp_path, told.trust.fingerprint), trusted(told)
    for number in range(5):  # a thief's lists, which a mirror hands out to this one alone
        told.trust.invite(f"thief-{number}")
    for gateway in (here, trusted(told, folder=folder)):
        assert gateway.belief.known().members.version == 6
    for version in range(2, 7):
        del told.trust.stored[f"members/{version}.json"]
    told.trust.operator, told.trust.members, told.trust.version = PrivateKey.generate(), {}, 1
    told.trust.rotate()
    told.trust.publish_members()
    told.publish(1)
    for gateway in (here, trusted(told, folder=folder)):
        assert (gateway.release().release, gateway.belief.known().members.version) == (1, 2)


def test_there_is_no_other_channel_and_that_is_no_attack(told: Told) -> None:
    told.publish(0)
    with pytest.raises(FederationError, match="there is no channel 'stable'; every federation has 'latest'"):
        trusted(told).release("stable")


def test_another_process_that_has_seen_more_is_heeded(told: Told, tmp_path: Path) -> None:
    told.publish(0)
    folder = FederationFolder(tmp_path, told.trust.fingerprint)
    first, second = trusted(told, folder=folder), trusted(told, folder=folder)
    first.release()
    told.trust.rotate()
    told.publish(1)
    assert second.release().release == 1
    assert first.release().release == 1
    del told.trust.stored["root/2.json"]
    with pytest.raises(RollbackError):
        trusted(told, folder=folder).release()


def test_only_operators_ask_for_statistics_of_private_data(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.publish(0)
    gateway, fisher = trusted(told), StatisticsRule(kind="fisher")
    assert gateway.status().statistics.wanted is None  # nothing is asked for, and no rules are read
    told.statistics = fisher
    told.trust.stored["federation.json"] = settings(told.trust, statistics=fisher)
    assert gateway.status().statistics == fisher
    assert caplog.text == ""
    for asked in (StatisticsRule(), StatisticsRule(kind="gram")):
        told.trust.stored["federation.json"] = settings(told.trust, statistics=asked)
        assert gateway.status().statistics == asked
    assert "the gateway asks for statistics (fisher, require)" in caplog.text
    del told.trust.stored["federation.json"]
    with pytest.raises(SignatureError, match="the federation's rules: are not handed out"):
        gateway.status()


def admission() -> Admission:
    return Admission(contribution=CONTRIBUTION, contributor="ada", delta_digest="0" * 64, num_examples=1)


def say(told: Told, decision: Decision) -> TrustedGateway:
    told.publish(0)
    told.verdicts[CONTRIBUTION] = ContributionVerdict(
        contribution=CONTRIBUTION, decision=decision, reason="fused into release 1"
    )
    return trusted(told)


REJECTION = Rejection(contribution=CONTRIBUTION, contributor="ada", reason="too long", is_late=True)


@pytest.mark.parametrize(
    ("event", "decision", "reason"),
    [
        (Admitted(admissions=(admission(),)), Decision.ADMITTED, "fused into release 1"),
        (Rejected(rejections=(REJECTION,)), Decision.REJECTED, "too long"),
        (
            Opened(base_release=0, base_digest="0" * 64, opened_at_s=1.0, carried=(admission(),)),
            Decision.ADMITTED, "fused into release 1",
        ),
    ],
)  # fmt: skip
def test_a_verdict_is_the_one_that_was_signed(told: Told, event: LeaderEvent, decision: Decision, reason: str) -> None:
    gateway = say(told, Decision.ADMITTED)
    told.decide(event)
    found = gateway.verdict(1, CONTRIBUTION)
    assert (found.decision, found.reason) == (decision, reason)


@pytest.mark.parametrize(
    ("forge", "sentence"),
    [
        (lambda told: None, "hands out no signed entry of the journal that says so"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), by=PrivateKey.generate()), "is signed by"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), by=told.trust.operator), "is signed by"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), round=2), "is an entry of round 2"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), federation="f" * 64), "of federation ffff"),
        (lambda told: told.decide(Closed(contributions=(CONTRIBUTION,), reason="x")), "says nothing of it"),
        (
            lambda told: told.decide(Admitted(admissions=(admission().model_copy(update={"contribution": OTHER}),))),
            "says nothing of it",
        ),
    ],
    ids=["none", "stranger", "operator", "round", "federation", "kind", "other"],
)
@pytest.mark.parametrize("decision", [Decision.ADMITTED, Decision.REJECTED])
def test_a_verdict_that_nobody_has_signed_is_not_believed(
    told: Told, decision: Decision, forge: Callable[[Told], None], sentence: str
) -> None:
    gateway = say(told, decision)
    forge(told)
    with pytest.raises(SignatureError, match=sentence):
        gateway.verdict(1, CONTRIBUTION)


def test_a_statement_is_no_verdict(told: Told) -> None:
    gateway = say(told, Decision.ADMITTED)
    told.entries[CONTRIBUTION] = told.trust.stored["releases/00000.sig"]
    with pytest.raises(CodecError, match="is signed as"):
        gateway.verdict(1, CONTRIBUTION)


def test_a_verdict_of_before_the_key_was_replaced_counts(told: Told) -> None:
    gateway = say(told, Decision.REJECTED)
    told.decide(Rejected(rejections=(REJECTION,)))
    told.trust.aggregator = PrivateKey.generate()
    told.trust.rotate()
    assert gateway.verdict(1, CONTRIBUTION).is_late


def test_that_nothing_was_decided_needs_no_proof(told: Told) -> None:
    assert say(told, Decision.PENDING).verdict(1, CONTRIBUTION).decision is Decision.PENDING
