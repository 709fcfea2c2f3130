"""Files that lie beside each other: an adapter's settings and its weights, a delta and its mask."""

from __future__ import annotations

from pathlib import Path

from coldfuse.errors import UserInputError
from coldfuse.tensors.contents import delta_digest
from coldfuse.tensors.deltas import mask_name, mask_of
from coldfuse.tensors.files import File, LocalFile, find_object
from coldfuse.tensors.folders import Location, is_remote
from coldfuse.tensors.tensor_file import TensorFile, open_tensors


def find_beside(where: Location, name: str) -> File | None:
    """Return a file of what may be a folder, or a prefix in S3; None if there is none."""
    if is_remote(where):
        return find_object(str(where).rstrip("/"), name)
    file = Path(where) / name
    return LocalFile(file) if file.is_file() else None


def mask_beside(path: Location, file: TensorFile) -> TensorFile | None:
    """Return the mask that a delta names, from the folder that the delta lies in; None where it names none.

    Raises:
        UserInputError: It is not there, or is another one.
    """
    digest = mask_of(file.header)
    if digest is None:
        return None
    name = mask_name(digest)
    beside = str(path).rpartition("/")[0] if is_remote(path) else Path(path).parent
    found = find_beside(beside, name)
    if found is None:
        raise UserInputError(f"{path}: its values are at the elements of a mask; expected {name} in the same folder")
    mask = open_tensors(found)
    if delta_digest(mask) != digest:
        raise UserInputError(f"{beside}/{name}: another mask than the delta's; bring the one that it was sent with")
    return mask
