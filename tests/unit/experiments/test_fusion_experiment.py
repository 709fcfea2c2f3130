"""The parts of the experiment that need no training."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from coldfuse.data.dataset import TextDataset
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import UserInputError
from coldfuse.experiments.fusion_data import deal
from coldfuse.experiments.fusion_experiment import CLEAN, Row, as_json, as_table
from coldfuse.experiments.fusion_presets import PRESETS
from coldfuse.experiments.fusion_round import ATTACKS
from coldfuse.experiments.fusion_scores import Outcome, head_fisher
from coldfuse.training.head import LinearHead


def examples(*counts: int) -> TextDataset:
    labels = tuple(label for label, count in enumerate(counts) for _ in range(count))
    names = tuple(f"class {label}" for label in range(len(counts)))
    return TextDataset(texts=tuple(f"text {i}" for i in range(len(labels))), labels=labels, label_names=names)


def test_parties_have_their_main_label_and_nobody_has_anothers_example():
    parts = deal(examples(100, 100), num_parties=4, num_each=40, main_share=0.8, seed=0)
    assert [Counter(part.labels).most_common(1)[0] for part in parts] == [(0, 32), (1, 32), (0, 32), (1, 32)]
    texts = [text for part in parts for text in part.texts]
    assert len(texts) == len(set(texts)) == 160


def test_a_label_with_few_examples_is_nobodys_main_one_but_is_dealt_out():
    parts = deal(examples(100, 100, 12), num_parties=4, num_each=50, main_share=0.5, seed=0)
    assert {Counter(part.labels).most_common(1)[0][0] for part in parts} == {0, 1}
    assert sum(part.labels.count(2) for part in parts) >= 8


def test_without_a_main_label_parties_are_alike():
    parts = deal(examples(300, 100), num_parties=4, num_each=100, main_share=0.0, seed=1)
    assert all(65 <= part.labels.count(0) <= 85 for part in parts)
    assert sum(map(len, parts)) == 400


def test_another_seed_deals_otherwise_and_the_same_seed_the_same():
    first, same, other = (deal(examples(50, 50), num_parties=2, num_each=20, main_share=0.5, seed=s) for s in (0, 0, 1))
    assert first == same != other


@pytest.mark.parametrize("main_share", [0.0, 0.5, 1.0])
def test_too_few_examples_are_refused(main_share):
    with pytest.raises(UserInputError, match=r"20 examples"):
        deal(examples(10, 10), num_parties=3, num_each=10, main_share=main_share, seed=0)


@pytest.mark.parametrize(("attack", "length"), [("noise10", 10), ("noise100", 100), ("flip", 1), ("flip10", 10)])
def test_attacks_are_as_long_as_they_say(attack, length):
    delta = torch.linspace(-1, 2, 50)
    strength, make = ATTACKS[attack]
    made = strength * make(delta, torch.Generator().manual_seed(0))
    assert made.norm() == pytest.approx(length * delta.norm().item(), rel=1e-5)
    cosine = torch.cosine_similarity(made, delta, dim=0)
    assert abs(cosine) < 0.5 if "noise" in attack else cosine == pytest.approx(-1)


def test_a_heads_fisher_information_is_the_expected_square_of_its_gradient():
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(3, 4, generator=generator), torch.randn(3, generator=generator)
    features = torch.randn(5, 4, generator=generator)
    expected_weight, expected_bias = torch.zeros(3, 4), torch.zeros(3)
    for text in features:
        for label in range(3):
            w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
            log_p = torch.log_softmax(w @ text + b, dim=0)[label]
            log_p.backward()
            expected_weight += log_p.exp().detach() * w.grad**2 / 5
            expected_bias += log_p.exp().detach() * b.grad**2 / 5
    got_weight, got_bias = head_fisher(LinearHead(weight=weight, bias=bias), features)
    torch.testing.assert_close(got_weight, expected_weight)
    torch.testing.assert_close(got_bias, expected_bias)


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_can_be_read(name):
    lines = [line for lines in PRESETS[name].methods.values() for line in lines]
    assert all(read_recipe(line) for line in lines)
    assert set(PRESETS[name].attacks) <= set(ATTACKS)


def row(method: str, *accuracies: dict[str, float], attack: str = CLEAN) -> Row:
    return Row(method=method, attack=attack, by_seed=[Outcome(recipe=method, accuracy=a) for a in accuracies])


def test_the_table_has_means_spreads_and_gains_over_the_mean():
    rows = [row("mean", {"a": 0.5, "b": 0.7}, {"a": 0.6, "b": 0.8}), row("ties", {"a": 0.7, "b": 0.9})]
    _, _, mean, ties = as_table(rows)
    assert mean == "| mean | 65.0 | 7.1 | +0.0 | 55.0 | 75.0 | `mean` |"
    assert ties == "| ties | 80.0 | – | +15.0 | 70.0 | 90.0 | `ties` |"


def test_the_table_of_attacks_has_a_column_for_each():
    rows = [row("mean", {"a": 0.9}), row("mean", {"a": 0.2}, attack="flip"), row("single models", {"a": 0.8})]
    assert as_table(rows)[0] == "| method | clean | flip |"
    assert as_table(rows)[2:] == ["| mean | 90.0 ± – | 20.0 ± – |", "| single models | 80.0 ± – |  |"]


def test_everything_found_is_plain_json():
    (found,) = json.loads(json.dumps(as_json([row("mean", {"a": 0.5})])))
    assert found == {"method": "mean", "attack": "clean", "by_seed": [{"recipe": "mean", "accuracy": {"a": 0.5}}]}
