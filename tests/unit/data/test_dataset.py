import pytest

from coldfuse.data.dataset import TextDataset, halves, split
from coldfuse.data.report import DataReport
from coldfuse.errors import UserInputError


def task(*counts):
    labels = tuple(label for label, count in enumerate(counts) for _ in range(count))
    names = tuple(f"c{label}" for label in range(len(counts)))
    return TextDataset(texts=tuple(map(str, range(len(labels)))), labels=labels, label_names=names)


@pytest.mark.parametrize("counts", [(90, 10), (5,) * 20, (97, 1, 1, 1), (2, 1)], ids=str)
def test_a_split_keeps_every_example_once_and_every_class_in_training(counts):
    dataset = task(*counts)
    train, validation = split(dataset, seed=sum(counts))
    assert sorted(train.texts + validation.texts, key=int) == list(dataset.texts)
    assert set(train.labels) == set(dataset.labels)
    assert 1 <= len(validation) <= max(1, round(len(dataset) / 10))


def test_a_split_is_stratified_and_follows_its_seed():
    dataset = task(100, 50)
    train, validation = split(dataset, seed=1)
    assert (validation.labels.count(0), validation.labels.count(1)) == (10, 5)
    assert split(dataset, seed=1) == (train, validation)
    assert split(dataset, seed=2) != (train, validation)


def test_a_share_out_of_range_or_too_few_examples_are_refused():
    with pytest.raises(UserInputError, match=r"validation_fraction is 1\.0"):
        split(task(5, 5), validation_fraction=1.0, seed=0)
    with pytest.raises(UserInputError, match="too few to set any apart"):
        split(task(1, 1), seed=0)


def test_halves_hold_every_example_once_and_the_first_every_class():
    first, second = halves(task(3, 1, 4))
    assert [first.labels, second.labels] == [(0, 0, 1, 2, 2), (0, 2, 2)]
    assert sorted(first.texts + second.texts) == list("01234567")
    with pytest.raises(UserInputError, match="2 examples of 2 classes are too few to set half of them apart"):
        halves(task(1, 1))


def test_a_digest_is_of_texts_pairs_labels_and_names():
    def digest(**changes):
        values = {"texts": ("a", "b"), "labels": (0, 1), "label_names": ("x", "y")} | changes
        return TextDataset(**values).digest()

    report = DataReport(files=("a.csv",), text_column="text", num_rows=2, classes={"x": 1, "y": 1})
    assert digest() == digest(report=report)
    others = ({"texts": ("a", "c")}, {"labels": (1, 1)}, {"label_names": ("x", "z")}, {"text_pairs": ("c", "d")})
    assert len({digest(), *(digest(**change) for change in others)}) == 5


def test_what_cannot_be_trained_on_is_no_data_set():
    with pytest.raises(ValueError, match="different lengths"):
        TextDataset(texts=("a",), labels=(0, 1), label_names=("x", "y"))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.0"):
        TextDataset(texts=("a",), labels=(1,), label_names=("x",))
