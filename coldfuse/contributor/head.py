"""The private head on disk: for the node's owner to use with the fine-tuned body, and never to leave the node."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def save_head(path: Path, head: Mapping[str, Tensor], label_names: Sequence[str]) -> None:
    """Write the head (`weight` of shape (classes, features), `bias`) and the names of its classes."""
    data = save({name: tensor.contiguous() for name, tensor in head.items()}, {"labels": json.dumps(list(label_names))})
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)
