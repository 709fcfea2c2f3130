import pytest

from coldfuse.errors import UserInputError
from coldfuse.training.job import TrainingSettings


def test_a_setting_out_of_range_is_named():
    for name, value in {"learning_rate": float("nan"), "batch_size": 0, "dropout": 1.0, "threads": 0}.items():
        with pytest.raises(UserInputError, match=f"{name} is {value}, expected"):
            TrainingSettings(**{name: value})


def test_where_and_when_decide_nothing():
    assert (
        TrainingSettings(threads=7, device="cuda", checkpoint_every_s=1.0).decisive() == TrainingSettings().decisive()
    )
    assert TrainingSettings(learning_rate=1e-3).decisive() != TrainingSettings().decisive()
