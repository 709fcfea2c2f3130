"""What is believed of a gateway: what the federation's keys have signed, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation_keys import NOW_S, TinyTrust
from told import Told, trusted

from coldfuse.consumer.belief import FRESH_S, Belief
from coldfuse.core.federation import Adopted, FederationSettings, RoundRules
from coldfuse.core.serialization import encode, sha256
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import FederationError, RollbackError, SignatureError
from coldfuse.trust.envelope import sign
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.seen import Memory


@pytest.fixture
def told() -> Told:
    return Told(TinyTrust())


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
