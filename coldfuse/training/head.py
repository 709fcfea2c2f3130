"""The private head on disk: for the node's owner to use with the fine-tuned body, and never to leave the node."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.header import format_header


def save_head(path: Path, head: Mapping[str, Tensor], label_names: Sequence[str]) -> None:
    """Write the head (`weight` of shape (classes, features), `bias`) and the names of its classes."""
    specs = [(name, TensorSpec(dtype="F32", shape=tuple(tensor.shape))) for name, tensor in head.items()]
    data = [tensor.detach().float().contiguous().numpy().tobytes() for tensor in head.values()]
    part = path.with_suffix(".part")
    part.write_bytes(format_header(specs, {"labels": json.dumps(list(label_names))}) + b"".join(data))
    os.replace(part, path)
