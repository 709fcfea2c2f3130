"""Adapters that PEFT expands: where their deltas lie, while a fusion reads them.

They are scratch files in a folder beside the result, on the disk that is to hold that anyway and that workers elsewhere
can read if they can write there. The plan names the files before they are written; the folder goes with the block, and
one that a killed process left goes when the same result is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from coldfuse.adapters.expansion import Expansion
from coldfuse.engine.fuse import Prepared
from coldfuse.engine.inputs import Input
from coldfuse.engine.staging import scratch_beside, scratch_folder
from coldfuse.errors import MissingExtraError
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.tensor_reader import TensorReader

_PURPOSE = "expanding"


def placed(inputs: Sequence[Input], out: Path) -> list[Input]:
    """Return the inputs with the places of the deltas that PEFT is to compute for a result."""
    folder = scratch_folder(out, _PURPOSE)
    return [
        item
        if item.adapter is None or item.adapter.expansion is None
        else replace(item, adapter=item.adapter.placed(_file(folder, index)), deltas=_file(folder, index))
        for index, item in enumerate(inputs)
    ]


@contextmanager
def expanded(prepared: Prepared, out: Path) -> Iterator[None]:
    """Have PEFT compute what a fusion needs, and keep it for the block.

    Args:
        prepared: The fusion, of inputs that are `placed`.
        out: The fusion's result.

    Raises:
        MissingExtraError: PEFT is not installed.
        UserInputError: PEFT cannot compute an adapter's change, or the disk is full.
    """
    pending = [(item.adapter.expansion, item.deltas) for item in prepared.inputs if item.adapter and item.deltas]
    if not pending:
        yield
        return
    with scratch_beside(out, _PURPOSE):
        for expansion, deltas in pending:
            if expansion is not None:
                write_deltas(expansion, prepared.base, deltas)
        yield


def write_deltas(expansion: Expansion, base: Checkpoint, deltas: Path) -> None:
    """Have PEFT compute one adapter's deltas, into a file. Raises as `expanded`."""
    try:
        from coldfuse.adapters.expanding import expand
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{expansion.what}: an adapter of type {expansion.peft_type} is computed by PEFT, and {error.name} is not "
            "installed: pip install 'coldfuse[adapters]'",
            name=error.name,
        ) from error
    with TensorReader(base.files.values()) as reader:
        expand(expansion, reader.floats, deltas)


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index}.safetensors"
