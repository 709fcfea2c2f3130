"""What a folder has of the module that is a base: an adapter's tensors, a release's, or those of a model around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coldfuse.adapters.adapter import OTHER_WEIGHTS, no_weights
from coldfuse.adapters.config import CONFIG as ADAPTER_CONFIG
from coldfuse.adapters.module_names import match_module
from coldfuse.core.left_out import LeftOut
from coldfuse.core.model_files import MODULE_WEIGHT_FILES
from coldfuse.engine.beside import find_beside
from coldfuse.engine.left_out import named_left_out
from coldfuse.engine.mismatches import Fitting
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.folders import Location, is_remote
from coldfuse.tensors.tensor_file import TensorFile, open_tensors


@dataclass(frozen=True, kw_only=True)
class ModuleInput:
    """What a folder has of a module."""

    files: tuple[TensorFile, ...]
    """All files that hold tensors."""
    fitting: Fitting
    """Which of them are the base's."""
    left_out: tuple[LeftOut, ...]
    """What it has beside the module."""


def open_module(base: Checkpoint, path: Location) -> ModuleInput | None:
    """Open what a folder has of the module that is the base; None for what is no folder, such as a delta.

    Raises:
        UserInputError: The folder has no tensors.
        SchemaMismatchError: It lacks one of the module's, or has it in another shape, such as of another rank.
        CodecError: A file is malformed.
    """
    if str(path).endswith(".safetensors") or not (is_remote(path) or Path(path).is_dir()):
        return None
    files = open_part(path)
    shapes = {entry.name: entry.spec.shape for file in files for entry in file.header.tensors}
    own = match_module(shapes, base.schema, what=str(path))
    left_out = tuple(sorted(shapes.keys() - set(own.values())))
    return ModuleInput(
        files=files,
        fitting=Fitting(base_names={name: to for to, name in own.items()}, left_out=left_out, unchanged=()),
        left_out=named_left_out(str(path), left_out, "no part of the module that is fused"),
    )


def open_part(path: Location) -> tuple[TensorFile, ...]:
    """Open the tensors of a folder: an adapter's, a module's, or all of a model's that may have one inside.

    Raises:
        UserInputError: There are none.
        CodecError: A file is malformed.
    """
    file = next((file for name in MODULE_WEIGHT_FILES if (file := find_beside(path, name)) is not None), None)
    if file is not None:
        return (open_tensors(file),)
    if find_beside(path, ADAPTER_CONFIG) is not None:
        raise no_weights(str(path), [name for name in OTHER_WEIGHTS if find_beside(path, name)])
    return tuple(open_checkpoint(path).files.values())
