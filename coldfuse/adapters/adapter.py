"""A PEFT adapter folder as what it is to fusion: a delta of the base, tensor by tensor and rows by rows.

    adapter = open_adapter(Path("alice"), base.schema, what="alice")
    delta = adapter.tensors["encoder.layer.0.attention.self.query.weight"].delta_rows(read_stored, base_rows, 0, 64)

Only the two files' descriptions are held: an adapter can be sent to any process that reads the same files. Tensors that
are trained whole and that the base does not have, a task's head, are no part of fusion; `ignored` names them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coldfuse.adapters.changes import Change, Float64, Read, Replaced, Stored, as_matrix, read_stored
from coldfuse.adapters.config import CONFIG, MERGE, AdapterConfig, parse_adapter_config
from coldfuse.adapters.kinds import KINDS, Module, check_orientation
from coldfuse.adapters.names import Contents, sort_tensors
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, encode, sha256
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.naming.matching import Config, Names, find_modules
from coldfuse.tensors.files import File, LocalFile
from coldfuse.tensors.header import Header
from coldfuse.tensors.tensor_file import read_file_header

__all__ = [
    "WEIGHTS", "Adapter", "AdapterTensor", "Read", "Stored", "is_adapter", "no_weights", "open_adapter", "read_adapter",
    "read_stored",
]  # fmt: skip

WEIGHTS = "adapter_model.safetensors"

NO_CONFIG: Config = {}

ToBase = Callable[[str], str | None]
"""Returns the base's name of an adapter's tensor, or None for what lies outside the base's body."""


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
        """The tensor seen as a matrix: its first dimension, and all others."""
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

    @property
    def config_digest(self) -> str:
        """Digest of the settings that count; with the file's bytes they are all that decides the delta."""
        # The base's name is a place: the same adapter, downloaded elsewhere, must keep its digest.
        return sha256(encode(self.config.model_copy(update={"base_model_name_or_path": ""})))


def is_adapter(path: Path) -> bool:
    """Tell whether a folder claims to be an adapter: it has PEFT's configuration, whatever else is in it."""
    return (path / CONFIG).is_file()


def open_adapter(path: Path, base_schema: Schema, *, what: str, base_config: Config = NO_CONFIG) -> Adapter:
    """Read the description of an adapter folder on this machine; no factor is read.

    Args:
        path: A folder with `adapter_config.json` and `adapter_model.safetensors`.
        base_schema: Dtypes and shapes of the base's tensors.
        what: The adapter's name, for errors.
        base_config: The content of the base's `config.json`, which says how transformers names its tensors.

    Raises:
        UserInputError: The folder is no adapter, or one that cannot be fused.
        SchemaMismatchError: The adapter does not fit the base.
        CodecError: A file is malformed.
    """
    config, file = _read_config(path, what), path / WEIGHTS
    if not file.is_file():
        raise no_weights(what)
    header = read_file_header(file)
    return read_adapter(config, LocalFile(file), header, base_schema, what=what, base_config=base_config)


def read_adapter(
    config_json: bytes, file: File, header: Header, base_schema: Schema, *, what: str, base_config: Config = NO_CONFIG
) -> Adapter:
    """Make sense of an adapter's two files, wherever they lie, and check it against the base.

    Args:
        config_json: The content of `adapter_config.json`.
        file: The adapter's safetensors file, which the changes will be read from.
        header: That file's header.
        base_schema: Dtypes and shapes of the base's tensors.
        what: The adapter's name, for errors.
        base_config: The content of the base's `config.json`, which says how transformers names its tensors.

    Raises:
        UserInputError: Something cannot be read or is not supported.
        SchemaMismatchError: The adapter does not fit the base.
        CodecError: A file is malformed.
    """
    config = parse_adapter_config(config_json, what=f"{what}: {CONFIG}")
    stored = [Stored(file, tensor) for tensor in header.tensors]
    contents = sort_tensors(stored, config.peft_type, what=what)
    base = Names(tensors=base_schema.keys(), needed=base_schema.keys(), config=base_config)
    to_base = find_modules(contents.modules, base, what=what)
    modules, outside = _modules(contents, to_base, config, base_schema, what)
    check_orientation(modules)  # before any factor is read the wrong way round
    changes: dict[str, list[Change]] = defaultdict(list)
    ignored = outside + _add_whole(contents, to_base, base_schema, changes, what)
    for module in modules:
        for name, change in KINDS[config.peft_type](module).items():
            changes[name].append(change)
    _check(stored, changes, base_schema, what)
    tensors = {
        name: AdapterTensor(name=name, shape=base_schema[name].shape, changes=tuple(changes[name]))
        for name in sorted(changes)
    }
    return Adapter(what=what, config=config, header=header, tensors=tensors, ignored=tuple(sorted(ignored)))


def _read_config(path: Path, what: str) -> bytes:
    if not is_adapter(path):
        raise UserInputError(f"{what}: expected a PEFT adapter folder, but {path} has no {CONFIG}")
    with open(path / CONFIG, "rb") as file:
        return file.read(MAX_MANIFEST_BYTES + 1)


def no_weights(what: str) -> UserInputError:
    """Return the error for an adapter whose weights are not in safetensors."""
    return UserInputError(
        f"{what}: no {WEIGHTS} in it; coldfuse reads safetensors only (convert others with "
        "PeftModel.from_pretrained(…).save_pretrained(…, safe_serialization=True))"
    )


def _modules(
    contents: Contents, to_base: ToBase, config: AdapterConfig, base: Schema, what: str
) -> tuple[list[Module], list[str]]:
    """Return the base's modules, and the names of those tensors whose modules lie outside its body."""
    modules, outside = [], []
    for name, parts in contents.modules.items():
        weight = to_base(f"{name}.weight")
        if weight is None:
            outside += [f"{name}.{part}" for part in parts]
        else:
            modules.append(Module(name=name, weight=weight, parts=parts, config=config, base=base, what=what))
    return modules, outside


def _add_whole(
    contents: Contents, to_base: ToBase, base: Schema, changes: dict[str, list[Change]], what: str
) -> list[str]:
    """Add the tensors that were trained whole to the changes, and return the names of those that stay out."""
    ignored = []
    for own_name, stored in contents.whole.items():
        name = to_base(own_name)
        if name is None or name not in base or not base[name].is_fused:
            ignored.append(own_name)
        elif stored.tensor.spec.shape != base[name].shape:
            raise SchemaMismatchError(
                f"{what}: tensor {name!r}: shape {list(stored.tensor.spec.shape)}, the base has "
                f"{list(base[name].shape)}; give the base that the adapter was trained on"
            )
        else:
            changes[name].append(Replaced(stored))
    return ignored


def _check(stored: Iterable[Stored], changes: Mapping[str, list[Change]], base: Schema, what: str) -> None:
    for item in stored:
        if not item.tensor.spec.is_fused and ".original_module." not in item.tensor.name:
            raise UserInputError(
                f"{what}: tensor {item.tensor.name[:200]!r}: {item.tensor.spec.dtype} is no dtype that can be fused"
            )
    for name, several in changes.items():
        if not base[name].is_fused:
            raise SchemaMismatchError(f"{what}: tensor {name!r}: the base has it as {base[name].dtype}, never fused")
        if len(several) > 1 and not all(change.is_sum for change in several):
            raise UserInputError(f"{what}: tensor {name!r} is changed twice, in ways that do not add up; {MERGE}")
