"""From a body and what is shared to the folder of release 0: PEFT makes the module, as it always starts one.

The body's configuration makes its layers; their weights are one zero each, spread over the shape, which takes no memory
whatever the size. Only vectors (norms, biases) are read, and norms of rows where DoRA starts from them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import nn

from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import encode
from coldfuse.core.shared_module import ADAPTER_WEIGHTS, MODULE_FILE, MODULE_WEIGHTS, TENSORS, Body, SharedModule
from coldfuse.errors import UserInputError
from coldfuse.naming.architecture import Architecture, Unknown, find_architecture
from coldfuse.naming.building import build, failures, quiet
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.header import format_header
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.training.sharing.kinds import Dora, Lora, Patterns, Share, _Targeted

_ROWS_BYTES = 64 << 20
"""Bytes of float64 that are held of a weight whose rows are measured."""

_COPIED = 1 << 20
"""Number of elements of a tensor that are copied at a time."""

_CAUSAL, _TEXT_TO_TEXT, _FEATURES = "CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"

_LINEAR = ("Linear", "Conv1D")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a body came from."""

    folder: Path
    origin: str
    """What the operator called it: a folder or a hub id."""
    revision: str | None = None
    """Commit at the hub, where it is known."""
    digest: str | None = None
    """Model digest, where it is known; else every tensor is read once, a few MiB at a time."""


def make_module(source: Source, share: Share, line: str, out: Path) -> SharedModule:
    """Write the folder of a federation's first module.

    Args:
        source: The body.
        share: What is shared.
        line: The same as the operator wrote it.
        out: A new folder.

    Raises:
        UserInputError: The body cannot have such a module.
    """
    body = open_checkpoint(source.folder)
    out.mkdir(parents=True)
    if isinstance(share, Patterns):
        _write_part(body, share, out)
    else:
        _write_adapter(body, share, source, out)
    digest = source.digest or body.digest()
    module = SharedModule(
        kind=share.kind, share=line, body=Body(digest=digest, origin=source.origin, revision=source.revision)
    )
    (out / MODULE_FILE).write_bytes(encode(module))
    return module


def _write_part(body: Checkpoint, share: Patterns, out: Path) -> None:
    """Write the tensors of the body that match, in the body's dtypes."""
    names = [name for name, spec in body.schema.items() if spec.is_fused and _matches(name, share)]
    for pattern in share.patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(sorted(body.schema)[:3])
            raise UserInputError(f"--share {pattern}: no tensor of the body has such a name; it has {some}, …")
    if len(names) == sum(spec.is_fused for spec in body.schema.values()):
        raise UserInputError(f"--share {','.join(share.patterns)}: that is the whole model; leave --share out")
    specs = [(name, body.schema[name]) for name in sorted(names)]
    with open(out / MODULE_WEIGHTS, "wb") as file, TensorReader(body.files.values()) as reader:
        file.write(format_header(specs, {"format": "pt"}))
        for name, spec in specs:
            for first in range(0, spec.num_elements, _COPIED):
                file.write(reader.raw(name, first, min(_COPIED, spec.num_elements - first)).tobytes())


def _matches(name: str, share: Patterns) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in share.patterns)


def _write_adapter(body: Checkpoint, share: Share, source: Source, out: Path) -> None:
    architecture = find_architecture(body.config)
    if isinstance(architecture, Unknown):
        raise UserInputError(f"{source.origin}: no module can be put into it: {architecture.why}")
    with TensorReader(body.files.values()) as reader:
        model = _hollow(body, architecture, reader)
        made = _wrapped(model, share, source)
        state = peft.get_peft_model_state_dict(made, save_embedding_layers=False)
        tensors = {name: t.detach().float().contiguous().numpy() for name, t in sorted(state.items())}
        if isinstance(share, Dora):
            tensors |= _lengths(tensors, architecture, body, reader)
    specs = [(name, TensorSpec(dtype="F32", shape=values.shape)) for name, values in tensors.items()]
    with open(out / ADAPTER_WEIGHTS, "wb") as file:
        file.write(format_header(specs, {"format": "pt"}))
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, np.float32).tobytes())
    config = made.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(str(out))


def _hollow(body: Checkpoint, architecture: Architecture, reader: TensorReader) -> Any:  # transformers is untyped
    """Return the body's model with weights that take no memory; vectors have the body's values."""
    model: Any = build(str(body.config["model_type"]), body.config)
    stored = architecture.stored_names(body.schema)
    for path, module in list(model.named_modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            own = stored.get(f"{path}.{name}" if path else name)
            if own is not None and parameter.dim() == 1 and body.schema[own].shape == tuple(parameter.shape):
                values = torch.from_numpy(reader.floats(own).astype(np.float32))
            else:
                values = torch.zeros(()).expand(parameter.shape)
            setattr(module, name, nn.Parameter(values, requires_grad=False))
    return model


def _wrapped(model: Any, share: Share, source: Source) -> Any:
    """Return PEFT's model; what it draws at random depends on the seed alone."""
    config_class = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(share.kind)]
    settings = {**share.settings(), **_targets(model, share)}
    config = config_class(
        **settings, task_type=_task_type(model), base_model_name_or_path=source.origin, revision=source.revision
    )
    with quiet(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(share.seed)
        try:
            made = peft.get_peft_model(model, config)
        except failures() as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise UserInputError(f"{source.origin}: PEFT cannot put {share.kind} into it: {reason}") from error
    made.peft_config["default"].base_model_name_or_path = source.origin
    return made


def _targets(model: Any, share: Share) -> dict[str, Any]:
    if not isinstance(share, _Targeted):
        return {}
    if (names := share.targets()) is not None:
        return {"target_modules": names}
    if not isinstance(share, Lora):
        return {}
    layers = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if re.search(r"\.\d+\.", path) and any(base.__name__ in _LINEAR for base in type(module).__mro__)
    }
    if not layers:
        raise UserInputError("--share: the body has no stack of layers with linear ones; say target_modules=…")
    # An expression of whole names holds for the body inside a task's model, too, and leaves out poolers and heads.
    return {"target_modules": rf"(?:.*\.)?\d+\.(?:.*\.)?(?:{'|'.join(sorted(map(re.escape, layers)))})"}


def _task_type(model: Any) -> str:
    """Return the task by which PEFT wraps a body: the one that its class was made for."""
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        return _TEXT_TO_TEXT if name.endswith("ForConditionalGeneration") else _FEATURES
    return _CAUSAL if name.endswith(("ForCausalLM", "LMHeadModel")) else _FEATURES


def _lengths(
    tensors: Mapping[str, Any], architecture: Architecture, body: Checkpoint, reader: TensorReader
) -> dict[str, Any]:
    """Return the length of each row of the weights that DoRA starts from, read a few rows at a time."""
    stored = architecture.stored_names(body.schema)
    found: dict[str, Any] = {}
    for name, values in tensors.items():
        if "lora_magnitude_vector" not in name:
            continue
        path = name.removeprefix("base_model.model.").partition(".lora_magnitude_vector")[0]
        own = stored.get(f"{path}.weight")
        shape = body.schema[own].shape if own else ()
        if own is None or len(shape) != 2 or shape[0] != values.size:
            raise UserInputError(f"--share dora: {path} is no plain linear layer of the body; say target_modules=…")
        found[name] = np.concatenate(list(_row_lengths(reader, own, shape))).reshape(values.shape)
    return found


def _row_lengths(reader: TensorReader, name: str, shape: tuple[int, ...]) -> Iterator[Any]:
    rows, columns = shape
    step = max(_ROWS_BYTES // (8 * columns), 1)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        yield np.sqrt(np.square(reader.floats(name, first * columns, count * columns).reshape(count, columns)).sum(1))


__all__ = ["TENSORS", "Source", "make_module"]
