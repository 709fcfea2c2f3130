"""A model as it would be with other files: in the place of those on disk, which nobody touches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from coldfuse.core.model_files import folder_of
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.composed import ComposedFile
from coldfuse.tensors.files import File
from coldfuse.tensors.folders import EditedFolder
from coldfuse.tensors.index import index_of
from coldfuse.tensors.model_folder import read_json
from coldfuse.tensors.tensor_file import TensorFile


def with_files(model: Checkpoint, files: Mapping[str, TensorFile], edited: Mapping[str, File]) -> Checkpoint:
    """Return a model with other safetensors files, and with other files beside them."""
    folder = EditedFolder(model.folder, edited) if edited else model.folder
    return replace(model, folder=folder, files=files, known_digest=None)


def small_json(name: str, content: object) -> ComposedFile:
    """Return a file of JSON that lies nowhere."""
    return ComposedFile(name, (json.dumps(content, indent=2) + "\n").encode(), ())


def edited_index(model: Checkpoint, place: str, files: Mapping[str, TensorFile]) -> dict[str, File]:
    """Return the index of one folder's files, if it has one, as it has to be for other files.

    Args:
        model: The model as it is.
        place: The folder; "" for the model's own.
        files: The model's new files.
    """
    own = {name.removeprefix(place): file.header for name, file in files.items() if folder_of(name) == place}
    headers = {name: header.without(place) for name, header in own.items()}
    found: dict[str, File] = {}
    for component in model.components:
        if component.folder == place and component.index:
            index = read_json(model.folder, component.index)
            content = (index if isinstance(index, dict) else {}) | index_of(headers)
            found[component.index] = small_json(f"{model.folder}/{component.index}", content)
    return found
