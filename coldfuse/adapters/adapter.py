"""A PEFT adapter folder as what it is to fusion: a delta of the base, tensor by tensor and rows by rows.

    adapter = open_adapter(Path("alice"), base.schema, what="alice")
    delta = adapter.tensors["encoder.layer.0.attention.self.query.weight"].delta_rows(read_stored, base_rows, 0, 64)

Only the two files' descriptions are held: an adapter can be sent to any process that reads the same files. Tensors that
are trained whole and that the base does not have, a task's head, are no part of fusion; `ignored` names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coldfuse.adapters.changes import Added, Change, Float64, Read, Stored, read_stored
from coldfuse.adapters.config import CONFIG, AdapterConfig, parse_adapter_config
from coldfuse.adapters.expansion import Expansion, Pending
from coldfuse.adapters.experts import Experts
from coldfuse.adapters.holding import Base, Held, hold
from coldfuse.adapters.names import sort_tensors
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, encode, sha256
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.files import File, LocalFile
from coldfuse.tensors.header import Header
from coldfuse.tensors.products import as_matrix
from coldfuse.tensors.quantised import explain_quantised
from coldfuse.tensors.tensor_file import read_file_header

__all__ = [
    "WEIGHTS", "Adapter", "AdapterTensor", "Read", "Stored", "is_adapter", "no_weights", "open_adapter", "read_adapter",
    "read_stored", "refuse_nested",
]  # fmt: skip

WEIGHTS = "adapter_model.safetensors"
OTHER_WEIGHTS = ("adapter_model.bin",)
"""Files that PEFT may have saved instead."""


@dataclass(frozen=True, kw_only=True)
class AdapterTensor:
    """How an adapter changes one tensor of the base."""

    name: str
    shape: tuple[int, ...]
    """Shape of the base's tensor."""
    changes: tuple[Change, ...]
    """Changes whose sum is the delta."""

    @property
    def rows_columns(self) -> tuple[int, int]:
        """The tensor seen as a matrix: its first dimension, and all others; of experts, all rows of all of them."""
        match self.changes:
            case (Added(matrix=Experts() as experts),):
                return experts.shape
        return as_matrix(self.shape)

    @property
    def needs_base(self) -> bool:
        """True if `delta_rows` looks at the base's values."""
        return any(change.needs_base for change in self.changes)

    def delta_rows(self, read: Read, base_rows: Float64, first_row: int, num_rows: int) -> Float64:
        """Return δ = W' − W for some rows, in float64; a row has the same bits whatever other rows come with it.

        Args:
            read: Reads ranges of the factors: `read_stored`, or a reader that keeps what it has read.
            base_rows: The base's values of these rows, `num_rows` × columns; anything if not `needs_base`.
            first_row: Index of the first row.
            num_rows: Number of rows.

        Returns:
            The delta, `num_rows` × columns; it may hold NaN or infinity, which is the caller's to refuse.

        Raises:
            ValueError: There are no such rows, or `base_rows` has another shape.
        """
        rows, columns = self.rows_columns
        if not 0 <= first_row <= first_row + num_rows <= rows:
            raise ValueError(f"{self.name}: rows {first_row}..{first_row + num_rows} of {rows}")
        if self.needs_base and base_rows.shape != (num_rows, columns):
            raise ValueError(f"{self.name}: base rows of shape {base_rows.shape}, expected {(num_rows, columns)}")
        if num_rows == 0:
            return np.empty((0, columns))
        with np.errstate(all="ignore"):  # what is not finite comes through, for the caller to refuse
            deltas = [change.rows(read, base_rows, first_row, num_rows) for change in self.changes]
            return sum(deltas[1:], start=deltas[0])


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter, checked against a base."""

    what: str
    """The adapter's name, for errors."""
    config: AdapterConfig
    header: Header
    """Header of the adapter's safetensors file."""
    tensors: Mapping[str, AdapterTensor]
    """The base's tensors that the adapter changes, by name, in the order of names."""
    ignored: tuple[str, ...]
    """The adapter's names of tensors that the base does not have, such as a task's head."""
    expansion: Expansion | None = None
    """What PEFT has to compute before any delta is read; None: nothing."""

    def __contains__(self, name: str) -> bool:
        """Tell whether it changes a tensor of the base."""
        return name in self.tensors

    def placed(self, deltas: Path) -> Adapter:
        """Return the adapter with the deltas that PEFT computes read from a file, which `expanding.expand` writes."""
        if self.expansion is None:
            return self
        found: Mapping[str, Change] = self.expansion.changes(deltas)
        tensors = {
            name: replace(
                tensor, changes=tuple(found[name] if isinstance(c, Pending) else c for c in tensor.changes)
            )
            for name, tensor in self.tensors.items()
        }  # fmt: skip
        return replace(self, tensors=tensors)

    @property
    def config_digest(self) -> str:
        """Digest of the settings that count; with the file's bytes they are all that decides the delta."""
        # The base's name is a place: the same adapter, downloaded elsewhere, must keep its digest.
        return sha256(encode(self.config.model_copy(update={"base_model_name_or_path": ""})))


def is_adapter(path: Path) -> bool:
    """Tell whether a folder claims to be an adapter: it has PEFT's configuration, whatever else is in it."""
    return (path / CONFIG).is_file()


def open_adapter(
    path: Path, base_schema: Schema, *, what: str, base_config: Mapping[str, object] | None = None
) -> Adapter:
    """Read the description of an adapter folder on this machine; no factor is read.

    Args:
        path: A folder with `adapter_config.json` and `adapter_model.safetensors`.
        base_schema: Dtypes and shapes of the base's tensors.
        what: The adapter's name, for errors.
        base_config: The base's `config.json`.

    Raises:
        UserInputError: The folder is no adapter, or one that cannot be fused.
        SchemaMismatchError: The adapter does not fit the base.
        CodecError: A file is malformed.
    """
    config, file = _read_config(path, what), path / WEIGHTS
    if not file.is_file():
        raise no_weights(what, [name for name in OTHER_WEIGHTS if (path / name).is_file()])
    header = read_file_header(file)
    return read_adapter(config, LocalFile(file), header, base_schema, what=what, base_config=base_config)


def read_adapter(
    config_json: bytes,
    file: File,
    header: Header,
    base_schema: Schema,
    *,
    what: str,
    base_config: Mapping[str, object] | None = None,
) -> Adapter:
    """Make sense of an adapter's two files, wherever they lie, and check it against the base.

    Args:
        config_json: The content of `adapter_config.json`.
        file: The adapter's safetensors file, which the changes will be read from.
        header: That file's header.
        base_schema: Dtypes and shapes of the base's tensors.
        what: The adapter's name, for errors.
        base_config: The base's `config.json`, which says more of it than shapes do.

    Raises:
        UserInputError: Something cannot be read or is not supported.
        SchemaMismatchError: The adapter does not fit the base.
        CodecError: A file is malformed.
    """
    config = parse_adapter_config(config_json, what=f"{what}: {CONFIG}")
    contents = sort_tensors([Stored(file, tensor) for tensor in header.tensors], config.peft_type, what=what)
    base = Base(base_schema, base_config or {})
    try:
        held = hold(contents, config, config_json, base, what=what)
    except SchemaMismatchError as error:
        if why := explain_quantised(base.schema, base.config):
            raise SchemaMismatchError(f"{what}: the base is quantised, {why}; adapters fuse with floats") from error
        raise
    return _adapter(held, config, header, base_schema, what)


def _adapter(held: Held, config: AdapterConfig, header: Header, base: Schema, what: str) -> Adapter:
    tensors = {
        name: AdapterTensor(name=name, shape=base[name].shape, changes=tuple(held.changes[name]))
        for name in sorted(held.changes)
    }
    return Adapter(
        what=what, config=config, header=header, tensors=tensors, ignored=tuple(sorted(held.outside)),
        expansion=held.expansion,
    )  # fmt: skip


def refuse_nested(path: Path) -> None:
    """Raise `UserInputError` if a folder is no adapter but holds some, as PEFT saves several that have names."""
    inside = sorted(item.parent.name for item in path.glob(f"*/{CONFIG}")) if not is_adapter(path) else []
    if inside and not (path / "config.json").is_file():
        raise UserInputError(
            f"{path}: holds no model, but adapters in folders of their own ({', '.join(inside[:5])}); give one, such "
            f"as {path / inside[0]}"
        )


def _read_config(path: Path, what: str) -> bytes:
    if not is_adapter(path):
        raise UserInputError(f"{what}: expected a PEFT adapter folder, but {path} has no {CONFIG}")
    with open(path / CONFIG, "rb") as file:
        return file.read(MAX_MANIFEST_BYTES + 1)


def no_weights(what: str, names: Sequence[str] = ()) -> UserInputError:
    """Return the error for an adapter whose weights are not in safetensors; `names` are those that there are."""
    if names:
        why = f"its weights lie in {names[0]}, a pickle, which coldfuse never opens"
    else:
        why = f"it has {CONFIG} but no {WEIGHTS}: it was not saved or downloaded whole"
    return UserInputError(
        f"{what}: {why}; save it again with PeftModel.from_pretrained(base, …).save_pretrained(…, "
        "safe_serialization=True)"
    )
