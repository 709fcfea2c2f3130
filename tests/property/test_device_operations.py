"""Which of torch's operations formulas make on a device: only those that round in one way, whatever the library.

A GPU is not needed to see that. On one, torch multiplies by the reciprocal where it is asked to divide by a number, and
fuses multiplications into additions where it is asked for both in one operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from test_devices import LINES, inputs_of, is_exact
from torch.utils._python_dispatch import TorchDispatchMode

from coldfuse.engine.folders.local import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

ROUNDED_ONCE = {"add", "add_", "sub", "mul", "mul_", "div", "sqrt", "_to_copy", "copy_"}
COMPARED = {"lt", "gt", "ge", "ne", "where", "abs", "amax", "maximum"}
ON_INTEGERS = {"sum", "scatter_add_", "remainder", "__rshift__", "bitwise_and", "bitwise_xor", "bitwise_not", "arange"}
MADE = {"empty", "full", "full_like", "ones", "scalar_tensor", "zeros", "zeros_like", "new_zeros", "lift_fresh"}
LOOKED_AT = {"_local_scalar_dense", "detach", "expand", "select", "slice", "unbind", "unsqueeze", "view"}


class Operations(TorchDispatchMode):
    """Checks every operation of this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.names.add(name)
        if name in ON_INTEGERS:
            assert not any(isinstance(arg, torch.Tensor) and arg.is_floating_point() for arg in args), name
        if name == "div":
            assert is_exact_divisor(args[1]), args[1]
        assert "alpha" not in (kwargs or {}), name
        return func(*args, **(kwargs or {}))


def is_exact_divisor(divisor: float | torch.Tensor) -> bool:
    """Whether dividing by it, or multiplying by its reciprocal, is rounded once."""
    if isinstance(divisor, torch.Tensor):
        return divisor.ndim > 0
    return math.frexp(divisor)[0] == 0.5  # a power of two


class OneThread:
    """Runs tasks in the thread that asks for them."""

    task_bytes = 1 << 40
    num_workers = 1

    def run(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[tuple[int, R]]:
        return ((index, task(shared, item)) for index, item in enumerate(items))


@pytest.mark.parametrize("line", [line for line in LINES if is_exact(read_recipe(line))])
def test_formulas_that_are_exact_only_make_operations_that_round_in_one_way(tmp_path: Path, line: str) -> None:
    base, models, more = inputs_of(tmp_path, "BF16", line)
    request = FolderFusion(
        base=base, models=models, out=tmp_path / "out", recipe=read_recipe(line), device="cpu:0", **more
    )  # fmt: skip
    with Operations() as operations:
        fuse_folders(request, OneThread())
    assert "sub" in operations.names
    assert operations.names <= ROUNDED_ONCE | COMPARED | ON_INTEGERS | MADE | LOOKED_AT
