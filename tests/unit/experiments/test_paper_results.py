"""Scores to curves, their spread, the table and the time that is left."""

from __future__ import annotations

import json
from statistics import stdev

import pytest
import torch
from torch.nn.functional import cross_entropy

from coldfuse.data.dataset import TextDataset
from coldfuse.experiments.paper.making import shuffled_labels
from coldfuse.experiments.paper.multitask import _Blocks
from coldfuse.experiments.paper.pretrain import Curve as LossCurve
from coldfuse.experiments.paper.results import Row, as_lines, as_table, by_set, curves
from coldfuse.experiments.paper.runner import Clock
from coldfuse.training.job import TrainingProgress


def row(accuracy, *, variant="ColD Fusion", seed=0, number=0, name="a", fold=0, group="seen"):
    return Row(
        variant=variant, fold=fold, seed=seed, round=number, protocol="frozen", group=group, set=name,
        accuracy=accuracy, model="m",
    )  # fmt: skip


ROWS = [
    *(row(value, seed=seed, name=name)
      for seed, name, value in ((0, "a", 0.5), (0, "b", 0.7), (1, "a", 0.6), (1, "b", 0.8))),
    *(row(value, seed=seed, name=name, number=2)
      for seed, name, value in ((0, "a", 0.7), (0, "b", 0.7), (1, "a", 0.9), (1, "b", 0.7))),
]  # fmt: skip


def test_a_curve_is_the_mean_over_data_sets_with_the_spread_over_seeds():
    [curve] = curves(ROWS)
    assert [point.round for point in curve.points] == [0, 2]
    assert curve.points[0].by_seed == pytest.approx((0.6, 0.7))
    assert curve.points[1].mean == pytest.approx(0.75)
    assert curve.points[1].spread == pytest.approx(stdev((0.7, 0.8)))
    assert curve.gains == pytest.approx((0.1, 0.1))


def test_folds_of_a_seed_are_counted_together():
    [curve] = curves([row(0.2, fold=0, name="a"), row(0.6, fold=1, name="b")])
    assert curve.points[0].by_seed == pytest.approx((0.4,))


def test_a_seed_counts_whose_fold_has_fewer_data_sets_than_others():
    rows = [row(0.2, name="a"), row(0.6, name="b"), row(0.9, seed=1, fold=1, name="c")]
    [curve] = curves(rows)
    assert curve.points[0].by_seed == pytest.approx((0.4, 0.9))


def test_a_seed_that_lacks_one_of_its_folds_bends_no_mean():
    rows = [row(0.2, fold=0, name="a"), row(0.6, fold=1, name="b"), row(0.9, seed=1, fold=1, name="b")]
    [curve] = curves(rows)
    assert curve.points[0].by_seed == pytest.approx((0.4,))


def test_a_seed_that_is_not_finished_bends_no_mean():
    [curve] = curves(ROWS[:-1])
    assert [len(point.by_seed) for point in curve.points] == [2, 1]
    assert curve.points[1].mean == pytest.approx(0.7)


def test_a_gain_is_of_the_seeds_that_have_both_ends():
    some = [one for one in ROWS if (one.seed, one.round) != (0, 2)]
    [curve] = curves(some)
    assert curve.gains == pytest.approx((0.1,))
    assert as_table(some)[2] == "| ColD Fusion | frozen | seen | 65.0 ± 7.1 | 80.0 ± – | +10.0 ± – |"
    [line] = by_set(some)
    assert line.endswith("best a +30.0, worst b -10.0")


def test_the_table_has_rounds_across_and_the_gain():
    lines = as_table([*ROWS, row(0.8, variant="multitask", name="a"), row(0.8, variant="multitask", name="b")])
    assert lines[0] == "| curve | score | data sets | start | round 2 | gain |"
    assert lines[2] == "| ColD Fusion | frozen | seen | 65.0 ± 7.1 | 75.0 ± 7.1 | +10.0 ± 0.0 |"
    assert lines[3] == "| multitask | frozen | seen | 80.0 ± – |  |  |"


def test_what_became_worse_is_said():
    [line] = by_set(ROWS)
    assert line.endswith("better than the start on 1 of 2 data sets; best a +25.0, worst b -5.0")


def test_every_score_is_a_line_of_json():
    assert [json.loads(line)["accuracy"] for line in as_lines(ROWS)] == [item.accuracy for item in ROWS]


def test_the_time_left_follows_from_what_was_done():
    clock = Clock(left=100.0)
    assert clock.said() == ""
    clock.began_s -= 30
    clock.spend(25)
    assert clock.said() == ", about 2 min left"
    clock.spend(1000)
    assert clock.said() == ", about 0 s left"


def test_the_loss_of_an_example_is_that_of_a_head_of_its_data_set_alone():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 3, 4])
    blocks = _Blocks(block_K=torch.tensor([0, 0, 1, 1, 1]))
    apart = [cross_entropy(logits[:2, :2], labels[:2]), cross_entropy(logits[2:, 2:], labels[2:] - 2)]
    torch.testing.assert_close(blocks(logits, labels), sum(apart) / 2)
    answers = blocks.masked(logits, labels).argmax(dim=1)
    assert all(answers[:2] < 2)
    assert all(answers[2:] >= 2)


def test_shuffled_labels_are_the_same_labels():
    data = TextDataset(texts=tuple("abcdefgh"), labels=(0, 1) * 4, label_names=("x", "y"))
    spoilt = shuffled_labels(data, seed=3)
    assert (spoilt.texts, sorted(spoilt.labels)) == (data.texts, sorted(data.labels))
    assert spoilt.labels != data.labels


def test_a_resumed_pretraining_forgets_the_losses_of_steps_that_are_done_again(tmp_path):
    def step(number):
        return TrainingProgress(phase="train", epoch=1, step=number, num_steps=9, loss=float(number))

    told = []
    for first in (1, 3):  # the second process has a checkpoint of step 2
        curve = LossCurve(tmp_path / "loss.jsonl", told.append)
        for number in range(first, first + 4):
            curve(step(number))
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert told[0].startswith("step 1 of 9, epoch 1: loss 1.00, about ")
