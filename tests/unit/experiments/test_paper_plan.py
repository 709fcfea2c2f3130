"""What an experiment asks for follows from its declaration; models are known by what they are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coldfuse.errors import UserInputError
from coldfuse.experiments.paper.declared import EXPERIMENTS
from coldfuse.experiments.paper.models import Averaged, Fused, Gated, Pooled, Pretrained
from coldfuse.experiments.paper.plan import Setting, plan
from coldfuse.experiments.paper.values import Sampled, Variant

SETS = [f"set-{number:02}" for number in range(12)]


def setting(experiment, *, sets=SETS, digest="base", digests=None, unseen=(), **sizes):
    experiment = EXPERIMENTS[experiment] if isinstance(experiment, str) else experiment
    return Setting(
        experiment=experiment, sizes=replace(experiment.sizes, **sizes), start=Pretrained(digest=digest, how=""),
        lengths=dict.fromkeys(sets, 5000), digests=digests or dict.fromkeys(sets, "data"), unseen=unseen,
    )  # fmt: skip


def wanted(*args, **sizes):
    return plan(setting(*args, **sizes))


def only(items, **values):
    return [item for item in items if all(getattr(item, name) == value for name, value in values.items())]


def models(items, **values):
    return [item.model.name for item in only(items, **values)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_planned(name):
    sets = SETS[: EXPERIMENTS[name].num_sets]
    found = wanted(name, sets=sets)
    assert {item.seed for item in found} == set(EXPERIMENTS[name].sizes.seeds)
    assert {item.group for item in found} == set(EXPERIMENTS[name].groups)
    assert {item.round for item in found} >= {0, EXPERIMENTS[name].sizes.rounds}


def test_the_start_is_scored_once_for_all_curves():
    found = only(wanted("contributors", seeds=(0,)), round=0)
    assert {item.variant for item in found} == {"2 contributors", "4 contributors", "8 contributors"}
    assert {type(item.model) for item in found} == {Pretrained}


def test_the_frozen_score_is_of_every_round_and_the_others_of_some():
    found = only(wanted("main", seeds=(0,), rounds=6, score_every=1, tune_every=3), variant="ColD Fusion", set="set-00")
    assert [item.round for item in only(found, protocol="frozen")] == list(range(7))
    assert [item.round for item in only(found, protocol="fine-tuned")] == [0, 3, 6]


def test_nobody_contributes_an_unseen_data_set():
    for item in wanted("unseen", seeds=(0,), rounds=2):
        model, shares = item.model, set()
        while isinstance(model, Fused):
            shares |= {tuned.share.set for tuned in model.tuned}
            model = model.start
        assert item.group == "seen" or item.set not in shares


def test_each_data_set_is_unseen_in_one_of_three_folds_which_the_seeds_have_in_turn():
    found = only(wanted("few-shot", seeds=(0, 1, 2)), variant="ColD Fusion", round=0)
    assert sorted(item.set for item in found) == SETS
    assert {(item.seed, item.fold) for item in found} == {(0, 0), (1, 1), (2, 2)}
    experiment = replace(EXPERIMENTS["few-shot"], has_fold_by_seed=False)
    assert len(only(wanted(experiment, seeds=(0, 1, 2)), variant="ColD Fusion", round=0)) == 3 * len(SETS)


def test_data_sets_that_are_named_as_unseen_are_the_only_fold():
    found = wanted("few-shot", unseen=("set-03",), seeds=(0,))
    assert {(item.fold, item.set) for item in found} == {(0, "set-03")}
    with pytest.raises(UserInputError, match="--unseen set-99: it is none of"):
        wanted("few-shot", unseen=("set-99",))


def test_experiments_share_what_they_have_in_common():
    unseen, few = (wanted(name, seeds=(0,), rounds=6) for name in ("unseen", "few-shot"))
    last = {"variant": "ColD Fusion", "round": 6, "fold": 0}
    assert set(models(unseen, **last)) == set(models(few, **last))


def test_a_model_is_another_where_anything_that_it_is_made_of_is():
    def last(**changes):
        return models(wanted("main", rounds=2, **changes), variant="ColD Fusion", round=2)[0]

    usual = last()
    assert usual == last()
    others = [
        last(digest="another"), last(digests=dict.fromkeys(SETS, "other data")), last(examples=50), last(epochs=3),
        last(seeds=(5,)),
    ]  # fmt: skip
    assert len({usual, *others}) == 6


def test_the_average_is_of_the_same_releases():
    found = wanted("main", seeds=(0,), rounds=2, score_every=1)
    [average] = {item.model for item in only(found, variant="EMA of releases", round=2)}
    assert isinstance(average, Averaged)
    assert average.latest.name in models(found, variant="ColD Fusion", round=2)
    assert average.before.latest.name in models(found, variant="ColD Fusion", round=1)


def test_baselines_have_all_data_sets_and_as_many_examples_as_a_federation():
    found = wanted("main", seeds=(0,), rounds=6, examples=100)
    [shot] = {item.model for item in only(found, variant="one-shot")}
    assert sorted(tuned.share.set for tuned in shot.tuned) == SETS
    [pooled] = {item.model for item in only(found, variant="multitask")}
    assert isinstance(pooled, Pooled)
    assert sum(share.count for share in pooled.shares) == 6 * 8 * 100


def test_the_union_of_a_dealt_data_set_is_trained_on_at_once():
    found = wanted("data-per-contributor", sets=SETS[:1], seeds=(0,), examples=400)
    [pooled] = {item.model for item in only(found, variant="multitask")}
    assert [share.count for share in pooled.shares] == [10 * 400]


def test_variants_of_more_data_sets_than_there_are_do_not_run():
    names = {item.variant for item in wanted("num-datasets", sets=SETS[:5], seeds=(0,))}
    assert names == {"4 data sets", "all data sets"}


def test_hostile_contributors_are_the_first_of_each_round():
    found = wanted("robustness", seeds=(0,))
    [last] = {item.model for item in only(found, variant="median, flip10", round=4)}
    assert [tuned.attack for tuned in last.tuned] == ["flip10", "flip10", *[None] * 6]


def test_the_local_objective_and_the_methods_statistics_reach_the_contributor():
    variants = (Variant(name="a", contributors=Sampled(num=2), recipe="regmean", objectives=("l2-sp",), epochs=7),)
    experiment = replace(EXPERIMENTS["main"], variants=variants, baselines=())
    [model] = {item.model for item in only(wanted(experiment, seeds=(0,), rounds=1), round=1)}
    assert {tuned.statistic for tuned in model.tuned} == {"gram"}
    assert model.tuned[0].training.objectives == ("l2-sp(alpha=0.01, beta=0.01)",)
    assert model.tuned[0].training.epochs == 7


def test_a_gated_federation_begins_each_round_with_what_the_gate_left():
    gated = Variant(name="gated", contributors=Sampled(num=8), is_gated=True)
    experiment = replace(EXPERIMENTS["main"], variants=(gated,), baselines=())
    last = only(wanted(experiment, seeds=(0,), rounds=2), round=2)[0].model
    assert isinstance(last, Gated)
    assert isinstance(last.candidate, Fused)
    assert last.candidate.start is last.before
    assert {share.set for share in last.shares} == set(SETS)
    assert isinstance(last.before, Gated)
    assert isinstance(last.before.before, Pretrained)
