"""Gate rules in a federation's settings: left out where unset, and a change like any other."""

from __future__ import annotations

import pytest

from coldfuse.core.federation import ChangeableSettings, FederationSettings, RoundRules, Terms, change_settings
from coldfuse.core.gate_rules import GateRules, SuiteWeight
from coldfuse.core.serialization import decode, encode
from coldfuse.verification.rules import all_terms

SETTINGS = FederationSettings(
    federation="a" * 64, name="tiny", rules=RoundRules(), method="mean", created_at_s=1.0, base="b",
    release_zero="0" * 64,
)  # fmt: skip
STRICT = GateRules(require="better", weights=(SuiteWeight(suite="b", weight=2.0), SuiteWeight(suite="a", weight=0.0)))


def changed(settings: FederationSettings, **wanted: object) -> FederationSettings:
    asked = ChangeableSettings.model_validate(wanted)
    return change_settings(settings, asked, by="ann", after_release=0, now_s=2.0)


def test_where_no_gate_was_ever_set_nothing_is_written_of_one() -> None:
    for value in (SETTINGS, SETTINGS.terms, SETTINGS.changeable, changed(SETTINGS, quorum=3)):
        assert b"gate" not in encode(value)


def test_a_gate_is_kept_with_all_its_numbers() -> None:
    now = changed(SETTINGS, gate=STRICT)
    assert decode(FederationSettings, encode(now), what="settings") == now
    assert now.terms.gate == STRICT
    assert decode(Terms, encode(now.terms), what="terms") == now.terms
    assert str(now.change) == (
        "gate - → better, not-worse by more than 1 point, alpha 0.05, weight a=0, weight b=2"
    )  # fmt: skip


@pytest.mark.parametrize("then", [GateRules.off(), GateRules(margin=0.02)])
def test_every_change_of_it_can_be_followed_back(then: GateRules) -> None:
    first = changed(SETTINGS, quorum=3)
    second = changed(first, gate=STRICT)
    third = changed(second, gate=then)
    changes = [each.change for each in (third, second, first) if each.change]
    assert list(all_terms(third, changes)) == [third.terms, second.terms, first.terms, SETTINGS.terms]
    assert len({third.terms, second.terms, first.terms, SETTINGS.terms}) == 4


def test_to_switch_off_what_is_off_changes_nothing() -> None:
    assert changed(SETTINGS, gate=GateRules.off()) is SETTINGS
    off = changed(changed(SETTINGS, gate=STRICT), gate=GateRules.off())
    assert changed(off, gate=GateRules.off()) is off


def test_a_round_keeps_the_gate_that_it_was_opened_with() -> None:
    terms = changed(SETTINGS, gate=STRICT).terms
    assert SETTINGS.under(terms).gate == STRICT
    assert changed(SETTINGS, gate=STRICT).under(SETTINGS.terms).gate is None
