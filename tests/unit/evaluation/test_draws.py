"""Which examples are trained and tested on."""

from __future__ import annotations

from pathlib import Path

import pytest
from reviews import write_reviews

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.evaluation.protocols import draw
from coldfuse.evaluation.settings import Protocol, protocols_for
from coldfuse.evaluation.suites import Reading, read_pair, read_suite, some
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.rows import Rows

DATA = TextDataset(texts=tuple(map(str, range(40))), labels=(0,) * 37 + (1, 1, 2), label_names=("a", "b", "c"))
READING = Reading(task="text-classification")


def test_every_class_is_drawn_before_any_is_drawn_twice() -> None:
    for seed in range(5):
        chosen = draw(DATA, 5, seed=seed)
        assert {DATA.labels[index] for index in chosen} == {0, 1, 2}
        assert len(chosen) == len(set(chosen)) == 5


def test_draws_follow_from_the_seed_alone() -> None:
    assert draw(DATA, 8, seed=3) == draw(DATA, 8, seed=3) != draw(DATA, 8, seed=4)


@pytest.mark.parametrize("count", [None, 40, 41, 1000])
def test_more_than_there_are_is_all(count: int | None) -> None:
    assert draw(DATA, count, seed=0) == list(range(40))


def test_examples_without_classes_are_drawn_too() -> None:
    assert len(draw(Rows(rows=tuple("abcdef"), options=None), 3, seed=0)) == 3


def test_a_sample_is_the_same_for_all_and_keeps_its_order() -> None:
    texts = [int(text) for text in some(DATA, 10).texts]
    assert texts == sorted(texts) == [int(text) for text in some(DATA, 10).texts]
    assert some(DATA, 40) is DATA


def test_a_file_is_split_and_the_parts_share_nothing(tmp_path: Path) -> None:
    suite = read_suite(str(write_reviews(tmp_path / "films.csv", num=40)), READING)
    assert (suite.name, len(suite.train), len(suite.tests[""])) == ("films", 28, 12)
    assert not set(suite.train.texts) & set(suite.tests[""].texts)


def test_a_folder_with_parts_is_taken_as_it_is_parted(tmp_path: Path) -> None:
    for part, num in (("train", 20), ("test", 10), ("validation", 8)):
        write_reviews(tmp_path / f"{part}.csv", num=num)
    suite = read_suite(str(tmp_path), READING)
    assert (suite.name, len(suite.train), len(suite.tests[""])) == (tmp_path.name, 20, 10)


def test_a_pair_is_tested_on_its_own_rest_and_on_the_other(tmp_path: Path) -> None:
    films = write_reviews(tmp_path / "films.csv", num=40)
    books = write_reviews(tmp_path / "books.csv", num=20, subject="book")
    suite = read_pair(str(films), str(books), READING)
    assert {name: len(tests) for name, tests in suite.tests.items()} == {"": 12, "books": 20}
    assert len(suite.train) == 28


def test_a_label_that_training_lacks_is_refused(tmp_path: Path) -> None:
    films = write_reviews(tmp_path / "films.csv", num=40)
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"text {n},{'neutral' if n % 2 else 'positive'}\n" for n in range(10)))
    with pytest.raises(UserInputError, match="neutral"):
        read_pair(str(films), str(other), READING)


@pytest.mark.parametrize(
    ("task", "kinds", "shots", "said"),
    [
        ("text-classification", ("perplexity",), (), "needs a head"),
        ("text-generation", ("probe",), (), "has none"),
        ("text-generation", ("perplexity",), (4,), "trains on nothing"),
        ("text-classification", ("magic",), (), "probe, fine-tuned, perplexity"),
        ("text-classification", (), (0,), "expected 1 or more"),
    ],
)
def test_a_protocol_that_a_task_has_not_is_refused(
    task: str, kinds: tuple[str, ...], shots: tuple[int, ...], said: str
) -> None:
    with pytest.raises(UserInputError, match=said):
        protocols_for(find_task(task), kinds, shots)


def test_the_usual_protocol_follows_from_the_task() -> None:
    assert protocols_for(find_task("text-classification"), (), ()) == (Protocol(kind="probe"),)
    assert protocols_for(find_task("fill-mask"), (), ()) == (Protocol(kind="perplexity"),)
    assert [p.name for p in protocols_for(find_task("regression"), ("probe", "probe"), (4, 16, 4))] == [
        "probe, 4 labels", "probe, 16 labels"
    ]  # fmt: skip
