"""The forms in which a fine-tuned model comes, as one: the delta of each tensor that the base has, by the base's names.

    a folder                a model, sharded or not, or a PEFT adapter; in S3, too
    a state dict            tensors of torch or arrays of numpy, by name
    a module of torch       its state dict
    a model with adapters   the adapter as PEFT saves it

Nothing is merged in memory: elements are read, or computed from an adapter's factors, as they are written; and where
these are a product of two small factors, as LoRA's are, the factors themselves are written, exactly. Names are
matched as transformers matches them when it loads the base (`coldfuse.naming`). What the base does not have, such as a
task's head, stays here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from coldfuse.adapters.adapter import (
    OTHER_WEIGHTS,
    WEIGHTS,
    Adapter,
    no_weights,
    read_adapter,
    read_stored,
    refuse_nested,
)
from coldfuse.adapters.config import CONFIG
from coldfuse.adapters.factored import factored
from coldfuse.adapters.module_names import match_module
from coldfuse.api.in_memory import Floats, Shape, as_tensor, require_finite
from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES, Schema
from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.engine.expansions import write_deltas
from coldfuse.engine.module_inputs import open_part
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.naming.matching import Config, Names, match_model
from coldfuse.naming.sharing import Share, only
from coldfuse.tensors.changes import Change, ChangesByName, DenseChange, LowRankChange
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.deltas import ReadDelta
from coldfuse.tensors.folders import Location, folder_at, is_remote
from coldfuse.tensors.model_folder import read_small
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader

__all__ = ["FineTuned", "Floats", "Model", "ModelWithAdapters", "Module", "open_finetuned", "require_finite"]

_FEWEST = 0.5
"""Share of the base's elements that a model must have, to count as a fine-tuned copy of it."""


@runtime_checkable
class Module(Protocol):
    """A model in memory, such as a `torch.nn.Module`."""

    def state_dict(self) -> Mapping[str, object]:
        """Return its tensors by name."""


@runtime_checkable
class ModelWithAdapters(Protocol):
    """A model in memory whose adapters are saved apart: a `PeftModel`, or a model of transformers with an adapter."""

    peft_config: Mapping[str, object]

    def save_pretrained(self, save_directory: str, **options: object) -> object:
        """Write the adapters to a folder."""


Model = str | os.PathLike[str] | Mapping[str, object] | Module | ModelWithAdapters
"""A fine-tuned model: the folder of a model or adapter, a state dict, or a model in memory."""


def no_factors(_name: str) -> None:
    """Return None: a whole model's delta is no product."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A fine-tuned model, held against the base."""

    names: tuple[str, ...]
    """Tensors of the base that it has."""
    read: ReadDelta
    """Returns elements of its delta to the base."""
    left_out: tuple[str, ...]
    """Its tensors that the base does not have, by its own names."""
    unchanged: tuple[str, ...] = ()
    """Tensors of the base that it does not have."""
    trained: str = "full"
    """What was trained, for the manifest: an adapter's type, or full."""
    factored: Callable[[str], LowRankChange | None] = no_factors
    """Returns the factors of a tensor's delta, where it is a product."""

    def only(self, share: Share) -> FineTuned:
        """Return what patterns name of it; the rest stays here. Raises `UserInputError` if a pattern names nothing."""
        named = only(share, [(name, name) for name in self.names])
        stays = tuple(name for name in self.names if name not in named)
        names = tuple(name for name in self.names if name in named)
        return replace(self, names=names, left_out=(*self.left_out, *stays))

    @property
    def changes(self) -> Mapping[str, Change]:
        """What was done to each tensor, in the form that it has; made when it is asked for."""
        return ChangesByName(self.names, lambda name: self.factored(name) or DenseChange(partial(self.read, name)))


def open_finetuned(model: Model, base: Checkpoint, scratch: Path, stack: ExitStack) -> FineTuned:
    """Hold a model against the base.

    Args:
        model: The model, in any of its forms.
        base: The base that it was made from.
        scratch: A folder for adapters on their way.
        stack: Closes what is read, once the delta is written.

    Raises:
        UserInputError: The model has none of the forms, or cannot be read.
        SchemaMismatchError: It is no fine-tuned copy of the base.
    """
    theta = stack.enter_context(TensorReader(base.files.values()))
    if base.module is not None:
        return replace(_open_part(model, base, theta, scratch, stack), trained=base.module.trained)
    if isinstance(model, str | os.PathLike):
        return _open_folder(os.fspath(model), base, theta, scratch, stack)
    if isinstance(model, ModelWithAdapters):
        return _open_adapter(_save_adapter(model, scratch), base, theta, scratch, what=type(model).__name__)
    if isinstance(model, Module):
        return _open_state(model.state_dict(), _config_of(model), base, theta, what=type(model).__name__)
    if isinstance(model, Mapping):
        return _open_state(model, {}, base, theta, what="the state dict")
    raise UserInputError(
        f"{type(model).__name__}: expected a model's or adapter's folder, a state dict, or a model in memory"
    )


def _open_part(model: Model, base: Checkpoint, theta: TensorReader, scratch: Path, stack: ExitStack) -> FineTuned:
    """Hold what has the module that is the base against it, by its own tensors: nothing is merged into a body."""
    what = os.fspath(model) if isinstance(model, str | os.PathLike) else type(model).__name__
    if isinstance(model, ModelWithAdapters):
        model = _save_adapter(model, scratch)
    if isinstance(model, str | os.PathLike):
        reader = stack.enter_context(TensorReader(files := open_part(Path(model))))
        specs = {entry.name: entry.spec for file in files for entry in file.header.tensors}
        return _hold(
            specs, match_module(_shapes(specs), base.schema, what=what), reader.floats, base.schema, theta, what=what
        )
    state = model.state_dict() if isinstance(model, Module) else model
    tensors = {name.replace(".default", ""): as_tensor(name, value, what) for name, value in state.items()}
    specs = {name: tensor.spec for name, tensor in tensors.items() if tensor.is_float}

    def read(name: str, first: int, count: int) -> Floats:
        return tensors[name].floats(first, count)

    own_names = match_module(_shapes(specs), base.schema, what=what)
    return _hold(specs, own_names, read, base.schema, theta, what=what)


def _open_folder(where: str, base: Checkpoint, theta: TensorReader, scratch: Path, stack: ExitStack) -> FineTuned:
    location: Location = where if is_remote(where) else Path(where)
    if folder_at(location).find(CONFIG) is not None:
        return _open_adapter(location, base, theta, scratch, what=where)
    if isinstance(location, Path):
        refuse_nested(location)
    model = open_checkpoint(location)
    reader = stack.enter_context(TensorReader(model.files.values()))
    specs = {name: spec for name, spec in model.schema.items() if spec.is_fused}
    own_names = _match(specs, model.config, base, where)
    return _hold(specs, own_names, reader.floats, base.schema, theta, what=where)


def _open_state(
    state: Mapping[str, object], config: Config, base: Checkpoint, theta: TensorReader, *, what: str
) -> FineTuned:
    tensors = {name: tensor for name, value in state.items() if (tensor := as_tensor(name, value, what)).is_float}
    specs = {name: tensor.spec for name, tensor in tensors.items()}

    def read(name: str, first: int, count: int) -> Floats:
        return tensors[name].floats(first, count)

    return _hold(specs, _match(specs, config, base, what), read, base.schema, theta, what=what)


def _hold(
    specs: Schema,
    own_names: Mapping[str, str],
    read: Callable[[str, int, int], Floats],
    base: Schema,
    theta: TensorReader,
    *,
    what: str,
) -> FineTuned:
    """Hold a whole model's tensors against the base.

    A tensor that is narrower than the base's is held against the base as that is in its dtype: the rounding of every
    weight is nothing that training has done.
    """
    for name, own in own_names.items():
        if specs[own].shape != base[name].shape:
            raise SchemaMismatchError(
                f"{what}: tensor {own}: shape {list(specs[own].shape)}, the base has {list(base[name].shape)}; "
                "was its vocabulary or a layer resized?"
            )

    def read_delta(name: str, first: int, count: int) -> Floats:
        own, before = own_names[name], theta.floats(name, first, count)
        if ITEM_BYTES.get(specs[own].dtype, 8) < ITEM_BYTES[base[name].dtype]:
            before = to_floats(from_floats(before, specs[own].dtype), specs[own].dtype).astype(np.float64)
        return require_finite(read(own, first, count), own, what) - before

    left_out = tuple(sorted(specs.keys() - set(own_names.values())))
    names = tuple(name for name in sorted(own_names) if base[name].is_fused)
    return FineTuned(names=names, read=read_delta, left_out=left_out, unchanged=_absent(names, base))


def _shapes(specs: Schema) -> dict[str, Shape]:
    return {name: spec.shape for name, spec in specs.items()}


def _absent(names: Collection[str], base: Schema) -> tuple[str, ...]:
    """Return the tensors of the base that could have been fused and are not among these."""
    return tuple(sorted(name for name, spec in base.items() if spec.is_fused and name not in names))


def _match(own: Collection[str], config: Config, base: Checkpoint, what: str) -> dict[str, str]:
    """Return the model's name of each tensor of the base that it has.

    Raises:
        SchemaMismatchError: It has less than half of the base, whatever its names become.
    """
    sizes = {name: spec.num_elements if spec.is_fused else 0 for name, spec in base.schema.items()}
    needed = {name for name, size in sizes.items() if size}
    matched = match_model(
        Names(tensors=own, needed=own, config=config),
        Names(tensors=sizes.keys(), needed=needed, config=base.config),
        what=what,
    )
    found = {to: name for name, to in matched.base_names.items()}
    if sum(map(sizes.__getitem__, found)) < _FEWEST * sum(sizes.values()):
        hint = f" ({matched.unknown})" if matched.unknown else ""
        raise SchemaMismatchError(
            f"{what}: has {len(found)} of the base's {len(sizes)} tensors, such as {min(sizes, default='-')}; expected "
            f"a fine-tuned copy of the base, with its names or those that transformers loads into the same places{hint}"
        )
    return found


def _config_of(model: Module) -> Config:
    """Return the configuration of a model in memory, with its class; empty if it is none of transformers'."""
    to_dict = getattr(getattr(model, "config", None), "to_dict", None)
    return {**to_dict(), "architectures": [type(model).__name__]} if callable(to_dict) else {}


def _save_adapter(model: ModelWithAdapters, scratch: Path) -> Path:
    active = getattr(model, "active_adapters", None)
    names = list(active() if callable(active) else active or model.peft_config)
    if len(names) != 1:
        raise UserInputError(f"{type(model).__name__}: expected one active adapter, got {', '.join(names) or 'none'}")
    model.save_pretrained(str(scratch), safe_serialization=True)
    own = scratch / names[0]
    return own if own.is_dir() else scratch


def _open_adapter(where: Location, base: Checkpoint, theta: TensorReader, scratch: Path, *, what: str) -> FineTuned:
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
        unchanged=_absent(adapter.tensors, base.schema),
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
