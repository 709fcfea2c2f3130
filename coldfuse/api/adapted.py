"""Adapters as fine-tuned models: as PEFT saves them, in a folder or from a model in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from coldfuse.adapters.adapter import OTHER_WEIGHTS, WEIGHTS, Adapter, no_weights, read_adapter, read_stored
from coldfuse.adapters.config import CONFIG
from coldfuse.adapters.factored import factored
from coldfuse.api.finetuned import FineTuned, absent
from coldfuse.api.in_memory import Floats, require_finite
from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.engine.expansions import write_deltas
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.deltas import ReadDelta
from coldfuse.tensors.folders import Location, folder_at
from coldfuse.tensors.model_folder import read_small
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader


@runtime_checkable
class ModelWithAdapters(Protocol):
    """A model in memory whose adapters are saved apart: a `PeftModel`, or a model of transformers with an adapter."""

    peft_config: Mapping[str, object]

    def save_pretrained(self, save_directory: str, **options: object) -> object:
        """Write the adapters to a folder."""


def save_adapter(model: ModelWithAdapters, scratch: Path) -> Path:
    """Write the one active adapter of a model to a folder, and return that.

    Raises:
        UserInputError: There are several, or none.
    """
    active = getattr(model, "active_adapters", None)
    names = list(active() if callable(active) else active or model.peft_config)
    if len(names) != 1:
        raise UserInputError(f"{type(model).__name__}: expected one active adapter, got {', '.join(names) or 'none'}")
    model.save_pretrained(str(scratch), safe_serialization=True)
    own = scratch / names[0]
    return own if own.is_dir() else scratch


def open_adapter(where: Location, base: Checkpoint, theta: TensorReader, scratch: Path, *, what: str) -> FineTuned:
    """Hold an adapter's folder against the base: its deltas are computed as they are read.

    Args:
        where: The folder.
        base: The base that it was made on.
        theta: Reads the base.
        scratch: A folder for what PEFT has to compute.
        what: What the errors call it.

    Raises:
        UserInputError: There are no weights, or they cannot be read.
        SchemaMismatchError: It is none of this base's.
    """
    folder = folder_at(where)
    config, weights = folder.find(CONFIG), folder.find(WEIGHTS)
    if config is None or weights is None:
        raise no_weights(what, [name for name in OTHER_WEIGHTS if folder.find(name) is not None])
    header, settings = open_tensors(weights).header, read_small(folder, CONFIG, most=MAX_MANIFEST_BYTES) or b""
    adapter = read_adapter(settings, weights, header, base.schema, what=what, base_config=base.config)
    if adapter.expansion is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        deltas = scratch / "deltas.safetensors"
        write_deltas(adapter.expansion, base, deltas)
        adapter = adapter.placed(deltas)
    return FineTuned(
        names=tuple(adapter.tensors), read=_adapter_reader(adapter, theta, what), left_out=adapter.ignored,
        unchanged=absent(adapter.tensors, base.schema),
        trained=adapter.config.peft_type.lower(), factored=lambda name: factored(adapter.tensors[name], read_stored),
    )  # fmt: skip


def _adapter_reader(adapter: Adapter, theta: TensorReader, what: str) -> ReadDelta:
    def read(name: str, first: int, count: int) -> Floats:
        tensor = adapter.tensors[name]
        _, columns = tensor.rows_columns
        first_row, last_row = first // columns, -(-(first + count) // columns)
        num_rows = last_row - first_row
        rows = theta.floats(name, first_row * columns, num_rows * columns) if tensor.needs_base else np.empty(0)
        base_rows = rows.reshape(num_rows, columns) if tensor.needs_base else np.empty((num_rows, 0))
        delta = tensor.delta_rows(read_stored, base_rows, first_row, num_rows).reshape(-1)
        start = first - first_row * columns
        return require_finite(delta[start : start + count], name, what)

    return read
