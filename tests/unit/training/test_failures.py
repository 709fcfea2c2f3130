import pytest
import torch
from torch import nn

from coldfuse.errors import UserInputError
from coldfuse.training.failures import ModelFailedError, failures_of


class Body(nn.Module):
    pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            IndexError("index out of range in self"),
            "IndexError: index out of range in self; a token or a position lies",
        ),
        (RuntimeError("CUDA error: device-side assert triggered\nmore"), "triggered; a token or a position lies"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "the memory is too small for this model"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "the memory is too small"),
        (ValueError("\n\n  such a shape\nand more"), "ValueError: such a shape; see that the folder holds one model"),
        (NotImplementedError(), "NotImplementedError; see that the folder"),
        (KeyError("x" * 5000), "KeyError: 'xxx"),
    ],
)
def test_what_a_model_raises_is_one_line_with_what_to_do(error: Exception, said: str) -> None:
    with pytest.raises(ModelFailedError) as caught, failures_of(Body(), "on a batch"):
        raise error
    assert str(caught.value).startswith("Body failed on a batch: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("error", [UserInputError("said already"), KeyboardInterrupt(), MemoryError("none left")])
def test_what_is_no_failure_of_the_model_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, failures_of(Body(), "on a batch"):
        raise error
    assert caught.value is error
