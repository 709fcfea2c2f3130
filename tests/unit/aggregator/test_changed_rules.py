"""An operator changes the rules while rounds run: a round keeps its own, and the next one has the new ones."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.core.federation import ChangeableSettings, RoundRules
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.registry.settings import read_settings, write_change

MODEL = make_model()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Return one with a quorum of 2, whose first round is open."""
    made = make_federation(tmp_path, MODEL)
    lead(made)
    return made


def change(federation: Federation, **wanted: object) -> None:
    settings, etag = read_settings(federation.store)
    write_change(federation.store, settings, etag, ChangeableSettings.model_validate(wanted), by="ann", after_release=0)


def send(federation: Federation, *names: str) -> None:
    for name in names:
        contribute(federation, name, make_changes(MODEL, ord(name[0])))


def events(appended) -> list[str]:
    return [event.event for event in appended]


def test_a_round_under_way_keeps_its_rules_and_the_next_has_the_new_ones(federation: Federation) -> None:
    send(federation, "ada")
    assert events(lead(federation)) == ["admitted"]
    change(federation, quorum=3, method="median")
    send(federation, "ben")
    assert events(lead(federation)) == ["admitted", "closed", "fused", "published"]
    assert federation.latest().method.startswith("mean")
    lead(federation, 2)
    opened = federation.journal(2).state().opened
    assert (opened.terms.rules.quorum, opened.terms.method) == (3, "median")


def test_a_round_without_anything_new_makes_way(federation: Federation) -> None:
    change(federation, quorum=1)
    assert events(lead(federation)) == ["abandoned"]
    lead(federation, 2)
    assert federation.journal(2).state().opened.terms.rules == RoundRules(quorum=1, deadline_s=60.0)
    assert events(lead(federation, 2)) == []


def test_another_name_ends_no_round(federation: Federation) -> None:
    change(federation, name="other")
    assert events(lead(federation)) == []


def test_a_lower_quorum_frees_those_who_wait(federation: Federation) -> None:
    change(federation, quorum=3)
    lead(federation)
    lead(federation, 2)
    send(federation, "ada", "ben")
    assert events(lead(federation, 2, now_s=1e9)) == ["admitted"]  # nobody had come: the deadline counts from here
    assert events(lead(federation, 2, now_s=1e9 + 60)) == ["abandoned"]
    assert events(lead(federation, 3)) == ["opened"]  # two carried of three: nobody new will come
    change(federation, quorum=2)
    assert events(lead(federation, 3)) == ["abandoned"]
    assert events(lead(federation, 4)) == ["opened", "closed", "fused", "published"]
    assert {fused.contributor for fused in federation.latest().contributions} == {"ada", "ben"}


def test_what_a_method_refused_is_tried_again_by_another_method_alone(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="krum(byzantine=1)")
    lead(federation)
    send(federation, "ada", "ben")
    assert events(lead(federation)) == ["admitted", "closed", "abandoned"]
    assert events(lead(federation, 2)) == ["opened"]
    change(federation, deadline_s=5.0)
    assert events(lead(federation, 2)) == ["abandoned"]
    assert events(lead(federation, 3)) == ["opened"]  # refused by this method: not tried again
    change(federation, method="mean")
    assert events(lead(federation, 3)) == ["abandoned"]
    assert events(lead(federation, 4)) == ["opened", "closed", "fused", "published"]


def test_a_gateway_says_what_holds_and_what_is_to_come(federation: Federation) -> None:
    send(federation, "ada")
    lead(federation)
    change(federation, quorum=3, deadline_s=90.0)
    with StoreGateway(federation) as gateway:
        status = gateway.status()
    assert status.rules == RoundRules(quorum=2, deadline_s=60.0)
    assert status.round.waits_for.endswith("; from the next round on: quorum 2 → 3, deadline 1m → 90s")
    assert "last changed: quorum 2 → 3, deadline 1m → 90s, by ann" in str(status)


def test_a_running_aggregator_and_gateway_take_a_change_up(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL)
    settings = AggregatorSettings(rounds=2, poll_s=0.005, lease_ttl_s=0.3)
    seen: list[tuple[int, str]] = []
    with StoreGateway(federation) as gateway:
        assert gateway.status().method == "mean"
        for number, event in serve_rounds(federation, ThreadExecutor(1), settings, stop=threading.Event()):
            seen.append((number, event.event))
            if (number, event.event) == (1, "opened"):
                send(federation, "ada", "ben")
            if (number, event.event) == (1, "admitted"):
                change(federation, quorum=1, method="median")
            if (number, event.event) == (2, "opened"):
                assert (gateway._read_status().method, gateway._read_status().rules.quorum) == ("median", 1)
                send(federation, "ada")
    assert seen[-1] == (2, "published")
    assert [release.method.split("(")[0] for release in map(federation.release, (1, 2))] == ["mean", "median"]
    assert len(federation.latest().contributions) == 1
