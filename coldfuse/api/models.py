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
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from coldfuse.adapters.adapter import (
    refuse_nested,
)
from coldfuse.adapters.config import CONFIG
from coldfuse.adapters.module_names import match_module
from coldfuse.api.adapted import ModelWithAdapters, open_adapter, save_adapter
from coldfuse.api.finetuned import FineTuned, absent
from coldfuse.api.in_memory import Floats, Shape, as_tensor, require_finite
from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES, Schema
from coldfuse.engine.module_inputs import open_part
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.naming.matching import Config, Names, match_model
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.folders import Location, folder_at, is_remote
from coldfuse.tensors.tensor_reader import TensorReader

_FEWEST = 0.5
"""Share of the base's elements that a model must have, to count as a fine-tuned copy of it."""


@runtime_checkable
class Module(Protocol):
    """A model in memory, such as a `torch.nn.Module`."""

    def state_dict(self) -> Mapping[str, object]:
        """Return its tensors by name."""


Model = str | os.PathLike[str] | Mapping[str, object] | Module | ModelWithAdapters
"""A fine-tuned model: the folder of a model or adapter, a state dict, or a model in memory."""


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
        return open_adapter(save_adapter(model, scratch), base, theta, scratch, what=type(model).__name__)
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
        model = save_adapter(model, scratch)
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
        return open_adapter(location, base, theta, scratch, what=where)
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
    return FineTuned(names=names, read=read_delta, left_out=left_out, unchanged=absent(names, base))


def _shapes(specs: Schema) -> dict[str, Shape]:
    return {name: spec.shape for name, spec in specs.items()}


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
