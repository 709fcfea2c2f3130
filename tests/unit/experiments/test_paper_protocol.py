"""The paper's protocol: folds, sampled contributors, and who trains on which examples."""

from __future__ import annotations

import pytest

from coldfuse.errors import UserInputError
from coldfuse.experiments.paper.protocol import Schedule, folds, held_out, indices, schedule, scored_rounds
from coldfuse.experiments.paper.values import Arriving, Dealt, Sampled

SETS = [f"set-{number:02}" for number in range(36)]
LENGTHS = dict.fromkeys(SETS, 1000)


def plan(who, sets=SETS, *, rounds=30, examples=100, seed=0, lengths=LENGTHS):
    return schedule(who, sets, Schedule(rounds=rounds, examples=examples, seed=seed), lengths=lengths)


def rows(share, length=1000, seed=0):
    return set(indices(share, length, seed=seed))


def test_three_folds_of_36_data_sets_have_24_seen_and_each_is_unseen_once():
    found = folds(SETS, 3)
    assert [(len(fold.seen), len(fold.unseen)) for fold in found] == [(24, 12)] * 3
    assert sorted(name for fold in found for name in fold.unseen) == SETS
    assert all(not set(fold.seen) & set(fold.unseen) for fold in found)


def test_folds_do_not_depend_on_the_order_in_which_data_sets_are_named():
    assert folds(SETS, 3) == folds(SETS[::-1], 3)


def test_more_folds_than_data_sets_are_refused():
    with pytest.raises(UserInputError, match="2 data sets cannot be dealt to 3 folds"):
        folds(["a", "b"], 3)
    with pytest.raises(UserInputError, match="nobody is left to contribute"):
        held_out(["a"], ["a"])


def test_each_round_samples_eight_data_sets_of_which_none_comes_twice():
    found = plan(Sampled(num=8))
    assert len(found) == 30
    assert all(len({share.set for share in shares}) == 8 for shares in found)
    assert {share.set for shares in found for share in shares} == set(SETS)  # 240 draws of 36
    assert len({tuple(share.set for share in shares) for shares in found}) == 30


def test_another_seed_samples_others_and_the_same_seed_the_same():
    first, same, other = (plan(Sampled(num=8), seed=seed) for seed in (0, 0, 1))
    assert first == same != other


def test_all_take_part_where_there_are_no_more():
    assert {share.set for share in plan(Sampled(num=8), SETS[:3])[0]} == set(SETS[:3])


def test_a_contributor_goes_on_through_all_its_examples_before_one_comes_again():
    shares = [found for [found] in plan(Sampled(num=1), SETS[:1], rounds=10)]
    assert sorted(index for share in shares for index in rows(share)) == list(range(1000))
    [again] = plan(Sampled(num=1), SETS[:1], rounds=11)[-1]
    assert rows(again) == rows(shares[0])


def test_fixed_examples_are_the_same_in_every_round():
    found = plan(Sampled(num=1, is_fixed=True), SETS[:1], rounds=3)
    assert found[0] == found[1] == found[2]


def test_a_small_data_set_gives_what_it_has():
    [[share]] = plan(Sampled(num=1), ["small"], rounds=1, lengths={"small": 30})
    assert rows(share, 30) == set(range(30))


def test_new_examples_every_round_never_come_twice():
    found = plan(Dealt(num=5, is_new=True), SETS[:1], rounds=10, examples=20)
    taken = [index for shares in found for share in shares for index in rows(share)]
    assert len(taken) == len(set(taken)) == 1000


@pytest.mark.parametrize("num", [2, 5, 10, 20])
def test_parties_of_one_data_set_have_examples_of_their_own_for_good(num):
    found = plan(Dealt(num=num, share=1 / num), SETS[:1], rounds=3, examples=1000)
    parts = [rows(share) for share in found[0]]
    assert sum(map(len, parts)) == 1000
    assert set().union(*parts) == set(range(1000))  # the union is the same for every number of parties
    assert found[0] == found[1] == found[2]


def test_too_few_examples_are_refused_with_how_many_it_takes():
    with pytest.raises(UserInputError, match=r"5 contributors of 100 examples need 1500 over all rounds.*has 1000"):
        plan(Dealt(num=5, is_new=True), SETS[:1], rounds=3)
    with pytest.raises(UserInputError, match="one data set is dealt out here, and 36 are named"):
        plan(Dealt(num=5))


def test_data_sets_that_arrive_do_not_come_back():
    found = plan(Arriving(num=2), SETS[:12])
    assert len(found) == 6
    assert sorted(share.set for shares in found for share in shares) == SETS[:12]


def test_start_and_end_are_scored_whatever_lies_between():
    assert scored_rounds(7, 3) == [0, 3, 6, 7]
    assert scored_rounds(1, 10) == [0, 1]


def test_balanced_sampling_has_as_many_contributors_of_each_kind_of_task():
    kinds = {name: "sentiment" if number < 30 else name for number, name in enumerate(SETS)}  # 30 of 36 are alike
    how = Schedule(rounds=20, examples=100, seed=0, kinds=kinds)
    found = schedule(Sampled(num=8, is_balanced=True), SETS, how, lengths=LENGTHS)
    assert all(sum(kinds[share.set] == "sentiment" for share in shares) == 2 for shares in found)  # 7 kinds, then again
    plain = schedule(Sampled(num=8), SETS, how, lengths=LENGTHS)
    assert sum(kinds[share.set] == "sentiment" for shares in plain for share in shares) > 100


def test_a_share_of_the_examples_is_gone_through_without_a_gap():
    shares = [found for [found] in plan(Sampled(num=1, share=0.5), SETS[:1], rounds=20)]
    assert sorted(index for share in shares for index in rows(share)) == list(range(1000))
