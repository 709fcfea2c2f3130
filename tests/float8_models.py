"""Hand-made models in FP8 with scales, and what PyTorch makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [4, 8]}
"""What config.json says of weights with a scale a block of 4 x 8."""


def quantise(values: Tensor, *scale_shape: int, block: tuple[int, int]) -> list[Tensor]:
    """Return FP8 numbers, some scales, and their product, rounded to BF16 once."""
    scales = torch.rand(scale_shape) + 0.5
    numbers = (values * 8).to(torch.float8_e4m3fn)
    wide = scales
    for dimension, size in ((-2, block[0]), (-1, block[1])):
        if len(scale_shape) >= 2:
            wide = wide.repeat_interleave(size, dimension).narrow(dimension, 0, values.shape[dimension])
    return [numbers, scales, (numbers.float() * wide).bfloat16()]


def write(folder: Path, files: Mapping[str, Mapping[str, Tensor]], config: object) -> Path:
    """Write a model folder of one file, or of several with an index."""
    folder.mkdir(parents=True)
    for name, tensors in files.items():
        save_file(dict(tensors), folder / name, metadata={"format": "pt"})
    if len(files) > 1:
        weight_map = {tensor: name for name, tensors in files.items() for tensor in tensors}
        index = {"metadata": {"total_size": 1, "own": "kept"}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config))
    return folder
