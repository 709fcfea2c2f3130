"""A model folder becomes objects: the files of release 0."""

from __future__ import annotations

from coldfuse.core.blob import Blob
from coldfuse.registry.objects import Objects
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.files import File, opened
from coldfuse.tensors.folders import existing
from coldfuse.tensors.parts import PartLayout, plan_parts, plan_plain_parts


def import_model(objects: Objects, folder: Checkpoint) -> dict[str, Blob]:
    """Store every file of a model part by part, and return their parts. What is there already is not written again."""
    files = {}
    for path in (*folder.files, *folder.plain):
        if path in folder.files:
            source = folder.files[path]
            files[path] = _import_file(objects, source.file, plan_parts(source.header))
        else:
            plain = existing(folder.folder, path)
            files[path] = _import_file(objects, plain, plan_plain_parts(plain.size_bytes))
    return files


def _import_file(objects: Objects, file: File, layouts: list[PartLayout]) -> Blob:
    parts = []
    with opened(file) as reader:
        for layout in layouts:
            data = bytearray(layout.size_bytes)
            reader.read_into(memoryview(data), layout.start)
            parts.append(put_part(data, objects.put))
    return Blob(parts=tuple(parts))
