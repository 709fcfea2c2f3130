"""Who does what: shares that are kept, and a plan that a seed decides."""

from __future__ import annotations

from collections import Counter

import pytest

from coldfuse.errors import UserInputError
from coldfuse.simulation.plan import CrashPoint, Crowd, Faults, parse_faults

CROWD = Crowd(
    num_contributors=1000, faults=Faults(crash=0.1, malicious=0.1, late=0.2), attacks=("zeros", "ipm"), train_s=10.0,
    deadline_s=60.0,
)  # fmt: skip


def test_shares_are_kept_and_nobody_is_hostile_and_late():
    everybody = CROWD.contributors()
    assert Counter(c.attack for c in everybody) == {None: 900, "zeros": 50, "ipm": 50}
    assert sum(c.is_late for c in everybody) == 200
    assert not any(c.is_late and c.attack for c in everybody)
    assert len({c.name for c in everybody}) == 1000


def test_late_ones_come_after_the_deadline_and_all_others_before():
    visits = list(CROWD.visits(CROWD.contributors(), 1))
    assert all((visit.after_s > 60) == visit.contributor.is_late for visit in visits)
    assert len({visit.after_s for visit in visits if not visit.contributor.is_late}) > 500  # each its own speed


def test_others_crash_in_each_round_and_some_come_back():
    everybody = CROWD.contributors()
    crashed = [{v.contributor.number: v for v in CROWD.visits(everybody, n) if v.crash} for n in (1, 2)]
    assert [len(each) for each in crashed] == [100, 100]
    assert crashed[0].keys() != crashed[1].keys()
    assert {visit.crash for visit in crashed[0].values()} == set(CrashPoint)
    assert 20 < sum(visit.returns_after_s is not None for visit in crashed[0].values()) < 80


def test_a_seed_decides_everything():
    def plan(seed):
        crowd = Crowd(num_contributors=50, faults=CROWD.faults, attacks=CROWD.attacks, seed=seed)
        return crowd.contributors(), list(crowd.visits(crowd.contributors(), 3))

    assert plan(1) == plan(1) != plan(2)


@pytest.mark.parametrize(
    "text", ["crash", "crash=x", "crash=1.5", "crash=-0.1", "crash=nan", "fire=0.1", "late=0.1,late=0.2",
             "malicious=0.7,late=0.7"]
)  # fmt: skip
def test_what_is_no_share_is_refused(text):
    with pytest.raises(UserInputError, match=r"expected|more than all"):
        parse_faults(text)


def test_faults_are_read_as_people_write_them():
    assert parse_faults(" crash=0.1, late=1 ") == Faults(crash=0.1, late=1.0)
    assert parse_faults("") == Faults()
