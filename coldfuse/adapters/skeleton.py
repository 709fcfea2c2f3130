"""Models of nothing but the layers that an adapter changes, for PEFT to wrap: made from the base's shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from coldfuse.adapters.changes import Stored
from coldfuse.adapters.expansion import ExpandedModule
from coldfuse.tensors.files import opened

_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip
_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d,
}  # fmt: skip


def tensor_of(stored: Stored) -> torch.Tensor:
    """Read a tensor of a file whole."""
    spec = stored.tensor.spec
    data = bytearray(max(spec.size_bytes, 8))  # torch takes no empty buffer
    with opened(stored.file) as file:
        file.read_into(memoryview(data)[: spec.size_bytes], stored.tensor.start)
    return torch.frombuffer(data, dtype=_DTYPES[spec.dtype], count=spec.num_elements).reshape(spec.shape)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A layer's weight and bias."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def layer(self, module: ExpandedModule, *, transposed: bool) -> nn.Module:
        """Return a layer with these weights.

        Args:
            module: What is known of the layer.
            transposed: True if linear layers store inputs × outputs.

        Raises:
            ValueError: No layer has such a weight.
        """
        shape = tuple(self.weight.shape)
        with torch.device("meta"):
            made: nn.Module
            if len(shape) == 2 and module.is_embedding:
                made = nn.Embedding(*shape)
            elif len(shape) == 2 and transposed:
                made = Conv1D(shape[1], shape[0])  # type: ignore[no-untyped-call]
            elif len(shape) == 2:
                made = nn.Linear(shape[1], shape[0])
            elif len(shape) in _CONVOLUTIONS:
                made = _CONVOLUTIONS[len(shape)](shape[1], shape[0], shape[2:])  # type: ignore[arg-type]
            else:
                raise ValueError(f"no layer that it can change has a weight of shape {list(shape)}")
        made.weight = nn.Parameter(self.weight, requires_grad=False)
        made.bias = None if self.bias is None else nn.Parameter(self.bias, requires_grad=False)
        return made


def read_weights(
    shapes: Sequence[tuple[int, ...] | None],
    read: Sequence[Callable[[], NDArray[np.float64]]] | None,
    dtype: torch.dtype,
) -> Weights:
    """Return a layer's weight and bias, read, or zeros that take no memory.

    Args:
        shapes: Shapes of the weight and of the bias; None: there is no bias.
        read: What reads each; None: nothing is read.
        dtype: Dtype to work in.
    """
    found = [
        None if shape is None
        else torch.zeros(1, dtype=dtype).expand(shape) if read is None
        else torch.from_numpy(read[index]()).to(dtype).reshape(shape)
        for index, shape in enumerate(shapes)
    ]  # fmt: skip
    weight, bias = found
    if weight is None:
        raise ValueError("a layer without a weight")
    return Weights(weight=weight, bias=bias)


def join(layers: dict[str, nn.Module]) -> nn.Module:
    """Return a model that has each layer under its name."""
    root = nn.Module()
    root.config = {"model_type": "custom", "tie_word_embeddings": False}  # type: ignore[assignment]
    for name, layer in layers.items():
        *path, last = name.split(".")
        parent = root
        for step in path:
            if not hasattr(parent, step):
                parent.add_module(step, nn.Module())
            parent = parent.get_submodule(step)
        parent.add_module(last, layer)
    return root
