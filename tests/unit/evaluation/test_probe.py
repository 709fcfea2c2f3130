from pathlib import Path

import pytest

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.evaluation.probe import linear_probe


def test_train_and_test_must_have_the_same_classes():
    train = TextDataset(texts=("a", "b"), labels=(0, 1), label_names=("no", "yes"))
    test = TextDataset(texts=("a",), labels=(0,), label_names=("yes",))
    with pytest.raises(UserInputError, match="different classes"):
        linear_probe(Path("never-read"), train, test)
