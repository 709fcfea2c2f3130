import pytest

from coldfuse.errors import UserInputError
from coldfuse.training.settings import TrainingSettings


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"batch_size": 0}, {"dropout": 1.0}, {"threads": 0}],
    ids=str,
)
def test_a_setting_out_of_range_is_named(wrong):
    (name,) = wrong
    with pytest.raises(UserInputError, match=f"{name} is .*, expected"):
        TrainingSettings(**wrong)
