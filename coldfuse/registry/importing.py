"""A model folder becomes objects: the files of release 0."""

from __future__ import annotations

from pathlib import Path

from coldfuse.core.blob import Blob
from coldfuse.registry.objects import Objects
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.local_file import LocalFile
from coldfuse.tensors.model_folder import ModelFolder
from coldfuse.tensors.parts import PartLayout, plan_parts, plan_plain_parts


def import_model(objects: Objects, folder: ModelFolder) -> dict[str, Blob]:
    """Store every file of a model part by part, and return their parts. What is there already is not written again."""
    files = {}
    for path in (*folder.headers, *folder.plain):
        header = folder.headers.get(path)
        size = (folder.path / path).stat().st_size
        layouts = plan_parts(header) if header is not None else plan_plain_parts(size)
        files[path] = _import_file(objects, folder.path / path, layouts)
    return files


def _import_file(objects: Objects, path: Path, layouts: list[PartLayout]) -> Blob:
    parts = []
    with LocalFile(path) as file:
        for layout in layouts:
            data = bytearray(layout.size_bytes)
            file.read_into(memoryview(data), layout.start)
            parts.append(put_part(data, objects.put))
    return Blob(parts=tuple(parts))
