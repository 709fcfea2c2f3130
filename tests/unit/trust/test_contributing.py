"""Whether what was sent counts, and how much somebody may send: decisions from the facts alone."""

from __future__ import annotations

import pytest

from coldfuse.trust.contributing import DAY_S, why_not_counted, why_taken_back, why_too_large, why_too_many
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import Member, Members, Quota, Revocation
from coldfuse.trust.rights import Asker

INVITE = PrivateKey.generate().public
NOW_S = 1_800_000_000.0


def member(**different: object) -> Member:
    made = Member(role="contributor", invite=INVITE, invited_at_s=NOW_S, join_by_s=NOW_S, valid_until_s=NOW_S + 100)
    return made.model_copy(update=different)


def asker(of: Member | None) -> Asker:
    return Asker(name="ada", member=of, keyid="0" * 64)


def revoked(since_s: float) -> Revocation:
    return Revocation(at_s=NOW_S + 50, since_s=since_s)


@pytest.mark.parametrize(
    ("of", "is_open", "at_s", "counts"),
    [
        (member(), False, NOW_S, True),
        (member(role="operator"), False, NOW_S, True),
        (member(role="evaluator"), False, NOW_S, False),
        (member(role="consumer"), True, NOW_S, False),
        (member(), False, NOW_S + 100, True),
        (member(), False, NOW_S + 100.1, False),
        (member(revoked=revoked(NOW_S + 10)), False, NOW_S + 9.9, True),
        (member(revoked=revoked(NOW_S + 10)), False, NOW_S + 10, False),
        (None, True, NOW_S, True),
        (None, False, NOW_S, False),
    ],
)
def test_what_counts_is_what_a_member_has_sent_who_might(
    of: Member | None, is_open: bool, at_s: float, counts: bool
) -> None:
    assert (why_not_counted(asker(of), is_open=is_open, at_s=at_s) is None) is counts


@pytest.mark.parametrize(
    ("at_s", "counts"),
    [(NOW_S + 5, True), (NOW_S + 10, False), (NOW_S + 30, False), (NOW_S + 40, True), (NOW_S + 60, True)],
)
def test_who_is_invited_again_is_judged_by_the_invitation_of_that_time(at_s: float, counts: bool) -> None:
    former = member(revoked=revoked(NOW_S + 10))
    members = Members(version=2, federation="1" * 64, members={"ada": member(invited_at_s=NOW_S + 40)},
                      former=(("ada", former),))  # fmt: skip
    assert (why_taken_back(members, "ada", at_s=at_s) is None) is counts


def test_what_was_admitted_of_a_name_in_no_list_stays() -> None:
    assert why_taken_back(Members(version=1, federation="1" * 64), "ada", at_s=NOW_S) is None


@pytest.mark.parametrize(
    ("most", "size_bytes", "is_too_large"), [(None, 1 << 60, False), (10, 10, False), (10, 11, True)]
)
def test_a_contribution_is_as_large_as_the_quota(most: int | None, size_bytes: int, is_too_large: bool) -> None:
    assert (why_too_large(Quota(contribution_bytes=most), size_bytes) is not None) is is_too_large


@pytest.mark.parametrize(
    ("most", "ages_s", "reason"),
    [
        (None, [0.0] * 100, None),
        (2, [], None),
        (2, [1.0], None),
        (2, [1.0, DAY_S], None),
        (2, [3600.0, DAY_S / 2], "may come in 12.0 h"),
        (1, [3600.0], "may come in 23.0 h"),
        (2, [3600.0, 7200.0, 10800.0], "may come in 22.0 h"),
    ],
)
def test_so_many_contributions_in_a_day(most: int | None, ages_s: list[float], reason: str | None) -> None:
    found = why_too_many(Quota(contributions_per_day=most), [NOW_S - age_s for age_s in ages_s], now_s=NOW_S)
    assert (found is None) is (reason is None)
    assert (reason or "") in (found or "")
