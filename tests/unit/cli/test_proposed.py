"""What an operator is told before signing what another one proposes: all of it, also what that one does not say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from federation_keys import NOW_S, TinyTrust

from coldfuse.cli.proposed import describe
from coldfuse.core.federation import Adopted, ChangeableSettings, FederationSettings, RoundRules, change_settings
from coldfuse.registry.proposals import Document, arrange
from coldfuse.trust.members import Members, Quota, Revocation
from coldfuse.trust.membership import revoked

SETTINGS = FederationSettings(
    federation="a" * 64, name="tiny", rules=RoundRules(), method="mean", created_at_s=NOW_S, base="base",
    release_zero="b" * 64, root="a" * 64,
)  # fmt: skip


def told(trust: TinyTrust, kind: Any, value: Any) -> list[str]:
    holding = SimpleNamespace(known=trust.view().known(), settings=SETTINGS)
    return describe(arrange([Document.of(kind, value)]), holding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hidden", "name"),
    [
        ({"adopted": Adopted(round=9, release=9)}, "adopted"), ({"is_auditable": True}, "is_auditable"),
        ({"method": "uniform"}, "method"), ({"root": "c" * 64}, "root"), ({"max_contribution_bytes": 1}, "max_contrib"),
    ],
)  # fmt: skip
def test_a_change_of_rules_says_what_its_proposer_does_not(hidden: dict[str, object], name: str) -> None:
    honest = change_settings(SETTINGS, ChangeableSettings(quorum=7), by="ada", after_release=0, now_s=NOW_S)
    assert len(told(TinyTrust(), "federation", honest)) == 1
    lines = told(TinyTrust(), "federation", honest.model_copy(update=hidden))
    assert len(lines) == 2
    assert f"NOT SAID BY WHO PROPOSES IT: {name}" in lines[1]


def test_a_list_of_members_says_what_becomes_of_a_revocation_and_of_former_invitations() -> None:
    trust, revocation = TinyTrust(), Revocation(at_s=NOW_S, since_s=NOW_S)
    trust.invite("ada", revoked=revocation)
    trust.invite("ben")
    trust.former = (("ada", trust.members["ben"]),)
    trust.publish_members()
    known = trust.view().known().members
    ada, ben = known.members["ada"], known.members["ben"]

    def lines(**changes: object) -> list[str]:
        return told(trust, "members", known.model_copy(update={"version": known.version + 1} | changes))

    back = lines(members=known.members | {"ada": ada.model_copy(update={"revoked": None})})
    assert [line.partition("; ")[2] for line in back] == ["the revocation is lifted"]
    more = ben.model_copy(update={"quota": Quota(contribution_bytes=1)})
    assert [line.partition("; ")[2] for line in lines(members=known.members | {"ben": more})] == ["quota changes"]
    for former in ((), (("ada", ada),)):
        assert any("former invitation of ada" in line for line in lines(former=former))
    after = revoked(known, "ada", since_s=NOW_S, reason="again", now_s=NOW_S)
    assert not any("former" in line for line in told(trust, "members", after))


def test_a_list_of_another_federation_cannot_be_published() -> None:
    from coldfuse.registry.proposals import is_current

    known = TinyTrust().view().known()
    other = Members(version=known.members.version + 1, federation="f" * 64)
    own = other.model_copy(update={"federation": known.fingerprint})
    store: Any = None  # it is not asked
    assert is_current(store, arrange([Document.of("members", own)]), known)
    assert not is_current(store, arrange([Document.of("members", other)]), known)
