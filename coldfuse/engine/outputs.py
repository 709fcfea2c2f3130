"""What a fusion makes: the model in the base's files or in files of another size, its delta, or an adapter.

A delta is written from the fused delta itself, rounded once to its own dtype: subtracting the base from a fused model
would lose what the model's dtype cannot hold. An adapter is made from that delta, one matrix after the other, and each
takes about six times its size in float64.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from coldfuse.adapters.applied import layers_that_peft_takes, measure_applied
from coldfuse.adapters.layout import LoraLayout, layout_by_names, layout_of
from coldfuse.adapters.recompress import Recompressed, recompress_all
from coldfuse.adapters.writing import write_lora_adapter
from coldfuse.core.dtypes import to_floats
from coldfuse.core.model_files import folder_of
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.engine.tied import Tied
from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Float64
from coldfuse.naming.architecture import Architecture, Unknown, find_architecture
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.encodings import Encoding
from coldfuse.tensors.files import LocalFile, OpenFile, opened
from coldfuse.tensors.header import Header, format_header, parse_header
from coldfuse.tensors.index import Weights, index_of, shard_names
from coldfuse.tensors.model_folder import Component, is_inside
from coldfuse.tensors.tensor_file import read_file_header

OutputKind = Literal["model", "delta", "adapter"]

DELTA_FILE = "delta.safetensors"
ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is to be made."""

    kind: OutputKind = "model"
    """A model's folder, one delta file, or a PEFT adapter's folder."""
    dtype: Encoding = "F32"
    """Dtype of a delta, or of an adapter's factors; a model has the base's dtypes."""
    shard_bytes: int | None = None
    """Maximum size of the tensors in one file of a model, unless it is one tensor; None: the base's own files."""
    rank: int | None = None
    """Number of columns of an adapter's factors."""
    base_name: str | None = None
    """Name by which an adapter calls its base, such as a hub id; None: the place where the base lies."""

    def __post_init__(self) -> None:
        """Refuse options that belong to another kind."""
        if self.kind != "model" and self.shard_bytes is not None:
            raise UserInputError(f"--shard-size is for models, and this makes one {self.kind}; leave it out")
        if self.kind == "model" and self.dtype != "F32":
            raise UserInputError("--dtype is for deltas and adapters; a fused model keeps the base's dtypes")
        if (self.kind == "adapter") != (self.rank is not None):
            wanted = "an adapter needs one, such as 16" if self.rank is None else "only adapters have one"
            raise UserInputError(f"--rank: {wanted}")

    @property
    def delta_dtype(self) -> Encoding | None:
        """Dtype of the delta that the fusion makes; None: it makes the model.

        An adapter is made from a delta in float32, and its factors are rounded once more.
        """
        return {"model": None, "delta": self.dtype, "adapter": "F32"}[self.kind]

    @property
    def made(self) -> str:
        """Name of what is to be kept of the staging folder; "" for all of it."""
        return {"model": "", "delta": DELTA_FILE, "adapter": ADAPTER_FOLDER}[self.kind]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files that are written."""

    heads: Mapping[str, bytes]
    """The first bytes of each safetensors file: its header."""
    plain: Collection[str] = ()
    """Names of the files that are copied from the base."""
    more: Mapping[str, bytes] = field(default_factory=dict)
    """The content of all other files, by name."""

    @cached_property
    def headers(self) -> dict[str, Header]:
        """The header of each safetensors file."""
        return {file: parse_header(head[8:], what=file).within(folder_of(file)) for file, head in self.heads.items()}

    @property
    def schema(self) -> Schema:
        """Every tensor's dtype and shape, as it is written."""
        return {name: spec for header in self.headers.values() for name, spec in header.schema.items()}


def base_layout(base: Checkpoint) -> Layout:
    """Return the base's own files, with their very headers: a fused model then has the base's parts, cut alike."""
    heads = {}
    for file, source in base.files.items():
        head = bytearray(source.header.size_bytes)
        with opened(source.file) as reader:
            reader.read_into(memoryview(head), 0)
        heads[file] = bytes(head)
    return Layout(heads=heads, plain=base.plain)


def layout_for(output: Output, base: Checkpoint, changed: Collection[str]) -> Layout:
    """Return the files of an output.

    Args:
        output: What is made.
        base: The base, of which a delta or an adapter is one.
        changed: Names of the tensors that some input changes, which are those of a delta.
    """
    if output.delta_dtype is not None:
        head = delta_header(base.schema, changed, encoding=output.delta_dtype, base_digest=base.digest())
        return Layout(heads={DELTA_FILE: head})
    return base_layout(base) if output.shard_bytes is None else _resharded(base, output.shard_bytes)


def _resharded(base: Checkpoint, shard_bytes: int) -> Layout:
    """Return files of about the same size, folder by folder; where libraries load one file alone, it stays one."""
    heads: dict[str, bytes] = {}
    more: dict[str, bytes] = {}
    indices = {component.index for component in base.components}
    for component in base.components or (_whole(base),):
        if component.weights:
            own, index = _cut(base.only([component.folder]), component, shard_bytes if component.may_be_cut else None)
            heads |= own
            more |= index
    return Layout(heads=heads, plain=[name for name in base.plain if name not in indices], more=more)


def _whole(base: Checkpoint) -> Component:
    return Component(folder="", weights=Weights(tuple(base.files), None), may_be_cut=True)


def _cut(model: Checkpoint, component: Component, shard_bytes: int | None) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the heads of the files of one folder, named as its library names them, and their index if they are many.

    The tensors stay in the base's order.
    """
    files: list[dict[str, TensorSpec]] = [{}]
    size = 0
    for header in model.headers.values():
        for entry in header.tensors:
            if shard_bytes is not None and files[-1] and size + entry.spec.size_bytes > shard_bytes:
                files.append({})
                size = 0
            size += entry.spec.size_bytes
            files[-1][entry.name.removeprefix(component.folder)] = entry.spec
    metadata = next((header.metadata for header in model.headers.values()), {})
    named, index = shard_names(component.weights, len(files)) if component.weights else ([], "")
    heads = {
        component.folder + name: format_header(specs.items(), metadata)
        for name, specs in zip(named, files, strict=True)
    }
    return heads, {} if len(files) == 1 else {component.folder + index: _index(heads, component.folder)}


def _index(heads: Mapping[str, bytes], folder: str) -> bytes:
    headers = {name.removeprefix(folder): parse_header(head[8:], what=name) for name, head in heads.items()}
    return (json.dumps(index_of(headers), indent=2) + "\n").encode()


def begin_files(out: Path, layout: Layout, base: Checkpoint) -> None:
    """Create the safetensors files in their final sizes with their headers, and all other files."""
    for file, head in layout.heads.items():
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        with open(out / file, "wb") as begun:
            begun.write(head)
            begun.truncate(layout.headers[file].file_bytes)
    for file in (*layout.more, *layout.plain):
        content = layout.more[file] if file in layout.more else base.read(file)
        if content is None or not is_inside(file):
            raise UserInputError(
                f"{base.folder}/{file}: is no file any more, or a link to nothing; fetch the whole model"
            )
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(content)


def write_adapter(staging: Path, output: Output, base: Checkpoint, tied: Tied) -> Recompressed:
    """Make an adapter from the delta in the staging folder, beside it, and see what PEFT makes of it.

    Args:
        staging: The folder with the fused delta.
        output: The rank, the dtype and the base's name that are wanted.
        base: The base of the delta.
        tied: The base's copies, as `find_tied` finds them.

    Returns:
        The factors, what they could not hold, and what of it PEFT applies.

    Raises:
        UserInputError: No layer has changed that can have factors.
        FusionError: The delta is not finite, or PEFT would not apply the adapter.
    """
    delta, folder = staging / DELTA_FILE, staging / ADAPTER_FOLDER
    entries = {entry.name: entry for entry in read_file_header(delta).tensors}
    with LocalFile(delta).open() as file:

        def read_delta(name: str) -> Float64:
            raw = np.frombuffer(_read(file, entries[name].start, entries[name].spec.size_bytes), np.uint8)
            return to_floats(raw, "F32").astype(np.float64)

        architecture = find_architecture(base.config)
        layout, unchecked = _adapter_layout(base, architecture, output.dtype, tied)
        found = recompress_all(base.schema, entries, read_delta, rank=output.rank or 1, layout=layout)
        base_name = output.base_name or str(base.folder)
        write_lora_adapter(folder, base_name, found.factors, schema=base.schema, layout=layout)
        if unchecked or isinstance(architecture, Unknown):
            return replace(found, unchecked=unchecked)
        return replace(found, applied=measure_applied(folder, architecture, layout, found.factors, read_delta))


def _adapter_layout(
    base: Checkpoint, architecture: Architecture | Unknown, dtype: str, tied: Tied
) -> tuple[LoraLayout, str]:
    """Return the layers that may have factors, and why PEFT could not be asked; "" if it was."""
    if isinstance(architecture, Unknown):
        model_type = str(base.config.get("model_type", ""))
        return layout_by_names(base.schema, model_type=model_type, dtype=dtype), architecture.why
    layout = layout_of(architecture, base.schema, dtype=dtype, tied=tied.values())
    try:
        return layers_that_peft_takes(architecture, layout), ""
    except ImportError:
        return layout, "PEFT is not installed"


def _read(file: OpenFile, start: int, length: int) -> bytearray:
    data = bytearray(length)
    file.read_into(memoryview(data), start)
    return data
