"""What PEFT is to compute of an adapter, and the file that the deltas will lie in, before anything is computed.

Some adapters have no formula here: rotations, wavelets, projections from a seed. PEFT works out their change of each
module (`expanding`) into a scratch file of deltas, from which rows are then read as from any other. The file's layout
follows from the base's shapes alone, so a fusion can be planned, and previewed, before the file is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from coldfuse.adapters.changes import Added, Factor, Float64, Read, Stored
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import Header, format_header, parse_header


@dataclass(frozen=True)
class Pending:
    """A change that is not computed yet; `Adapter.placed` puts the real one in its place."""

    needs_base: ClassVar[bool] = False
    is_sum: ClassVar[bool] = False

    def rows(self, _read: Read, _base_OI: Float64, _first: int, _num: int) -> Float64:  # noqa: N803
        """Raise `RuntimeError`: somebody forgot to have it computed."""
        raise RuntimeError("this adapter's deltas are not computed yet")


@dataclass(frozen=True, kw_only=True)
class ExpandedModule:
    """One layer whose change PEFT computes."""

    name: str
    """The adapter's name of the layer."""
    weight: str
    """The base's name of its weight."""
    own_weight: Stored | None = None
    """The weight that the adapter itself brings, which counts instead of the base's."""
    is_embedding: bool = False
    """True if the layer looks up rows of its weight."""
    transposed: bool | None = None
    """True if it stores inputs × outputs; None: that is not known here."""
    parts: tuple[Stored, ...] = ()
    """The adapter's tensors of this layer alone."""


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """Everything that PEFT needs of an adapter."""

    what: str
    """The adapter's name, for errors."""
    peft_type: str
    config_json: bytes
    """The content of `adapter_config.json`."""
    shared: tuple[Stored, ...]
    """The adapter's tensors that all layers share."""
    modules: tuple[ExpandedModule, ...]
    changed: Mapping[str, TensorSpec]
    """What is computed: the deltas' dtypes and shapes by the base's names."""
    base: Schema
    """Dtypes and shapes of the base's layers that change."""
    base_config: Mapping[str, object]
    """The base's `config.json`."""

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the file of deltas: its header."""
        return format_header(sorted(self.changed.items()), {"format": "pt"})

    @cached_property
    def header(self) -> Header:
        """The header of the file of deltas."""
        return parse_header(self.head[8:], what=f"{self.what}: deltas")

    def changes(self, path: Path) -> dict[str, Added]:
        """Return the changes, read from the file of deltas, by the base's names."""
        file = LocalFile(path)
        return {entry.name: Added(Factor(Stored(file, entry)), 1.0) for entry in self.header.tensors}


def computed(base: Schema, names: list[str]) -> dict[str, TensorSpec]:
    """Return the deltas' dtypes and shapes of some of the base's tensors."""
    return {name: TensorSpec(dtype="F32", shape=base[name].shape) for name in names}
