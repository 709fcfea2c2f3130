"""What is fused: model folders, deltas and adapters, with their weights and statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from coldfuse.adapters.adapter import OTHER_WEIGHTS, Adapter, no_weights, read_adapter, refuse_nested
from coldfuse.adapters.adapter import WEIGHTS as ADAPTER_WEIGHTS
from coldfuse.adapters.config import CONFIG as ADAPTER_CONFIG
from coldfuse.core.left_out import LeftOut
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, sha256
from coldfuse.engine.beside import find_beside, mask_beside
from coldfuse.engine.left_out import fit, named_left_out, weights_alone
from coldfuse.engine.mismatches import Fitting
from coldfuse.engine.module_inputs import open_module
from coldfuse.engine.operands import Operands, delta_operands, operands
from coldfuse.engine.tied import Tied, by_first_name, check_adapter, check_changes
from coldfuse.engine.untied import untied_model
from coldfuse.errors import UserInputError
from coldfuse.fusion.settings import Settings
from coldfuse.tensors.checkpoint import (
    Checkpoint,
    open_checkpoint_or_tensors,
    open_file,
)
from coldfuse.tensors.contents import content_digest, delta_digest, sample_digest
from coldfuse.tensors.deltas import FORMAT, check_delta
from coldfuse.tensors.dequantised import open_as_floats
from coldfuse.tensors.encodings import Encoded
from coldfuse.tensors.files import File, opened
from coldfuse.tensors.folders import Location, is_remote
from coldfuse.tensors.statistics import read_statistics_info
from coldfuse.tensors.tensor_file import TensorFile, open_tensors

_DIGESTS_AT_A_TIME = 4
"""Number of models that are read and hashed at a time."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One model folder, delta or adapter folder to be fused, checked against the base."""

    path: Location
    """Name or place of the input, for people."""
    files: tuple[TensorFile, ...]
    """All files of tensors that the input has, but for its statistics; a delta, and then its mask if it has one."""
    is_delta: bool
    """True for a delta or an adapter; False for a model, from which the base is subtracted."""
    weight: float
    """How much the input counts, w_i."""
    share: float = 1.0
    """Share of its delta that is taken, before anything else is done with it."""
    settings: Settings = field(default_factory=dict)
    """The input's own weights and parameters, where they are not one number for all."""
    statistics: tuple[TensorFile, ...] = ()
    """The file of the input's statistics, if the recipe asks for one."""
    adapter: Adapter | None = None
    """What the file means, if the input is an adapter."""
    tied: Tied = field(default_factory=dict)
    """The tensor that each copy among the base's tensors is a copy of: what the input has of a copy alone counts for
    that tensor."""
    known_digest: str | None = None
    """Digest of a delta, where it is known without reading it."""
    deltas: Path | None = None
    """The file that PEFT's deltas of an adapter will be in while a fusion runs, if PEFT computes them."""
    encoded: Mapping[str, Encoded] = field(default_factory=dict)
    """How each tensor of a delta is stored, by the base's names; empty for what is no delta."""
    shapes: Schema = field(default_factory=dict)
    """The base's tensors, by which a delta's encodings are read."""
    left_out: tuple[LeftOut, ...] = ()
    """What it has and no result can have, and what it lacks."""
    fitting: Fitting | None = None
    """How a model's names become the base's; None for what has the base's names."""

    @property
    def operands(self) -> Operands | Adapter:
        """Where the input's tensors lie, by the base's names and by the first name of tied ones."""
        if self.adapter:
            return replace(self.adapter, tensors=by_first_name(self.adapter.tensors, self.tied))
        places = operands(self.files, is_delta=self.is_delta).tensors
        if self.encoded:
            mask = self.files[1] if len(self.files) > 1 else None
            return delta_operands(self.files[0], self.encoded, self.shapes, self.tied, mask=mask)
        if self.fitting is not None:
            places = {to: places[name] for name, to in self.fitting.base_names.items()}
        return Operands(by_first_name(places, self.tied), self.is_delta)

    @property
    def statistics_operands(self) -> Operands:
        """Where the input's statistics lie, likewise; they have the names of the model that was measured."""
        names = self.fitting.base_names if self.fitting else {}
        places = operands(self.statistics, is_delta=True).tensors
        places = {names.get(name, name): place for name, place in places.items()}
        infos = [read_statistics_info(file.header, what=str(file)) for file in self.statistics]
        return Operands(
            by_first_name(places, self.tied),
            is_delta=True,
            coding=infos[0].coding if infos else None,
            is_gram=any(info.kind == "gram" for info in infos),
        )

    @cached_property
    def digest(self) -> str:
        """Digest of all that the input holds, which random numbers depend on.

        A delta's is the one by which a federation knows it; a model's or adapter's does not depend on its files.
        """
        if self.is_delta and self.adapter is None:
            return delta_digest(self.files[0]) if self.known_digest is None else self.known_digest
        return self._with_config(content_digest(self.files))

    @cached_property
    def place(self) -> str:
        """What inputs are ordered by: a delta's digest, as in a federation, or the digest of samples of a model.

        Samples are quick, and mostly enough to tell models apart.
        """
        if self.is_delta and self.adapter is None:
            return self.digest
        return self._with_config(sample_digest(self.files))

    def _with_config(self, digest: str) -> str:
        return digest if self.adapter is None else sha256(f"{digest}{self.adapter.config_digest}".encode())


def open_input(base: Checkpoint, path: Location, weight: float, *, tied: Tied) -> Input:
    """Open one input without its statistics, and check that it fits the base; see `informed.open_inputs`."""
    if base.module is not None and (part := open_module(base, path)) is not None:
        return Input(
            path=path, files=part.files, is_delta=False, weight=weight, fitting=part.fitting, left_out=part.left_out
        )
    if (config := find_beside(path, ADAPTER_CONFIG)) is not None:
        file = find_beside(path, ADAPTER_WEIGHTS)
        if file is None:
            raise no_weights(str(path), [name for name in OTHER_WEIGHTS if find_beside(path, name)])
        tensors = open_tensors(file)
        own = base.component("") if "" in base.folders else base  # an adapter is of the model in the folder itself
        adapter = read_adapter(
            _read_at_most(config), file, tensors.header, own.schema, what=str(path), base_config=base.config
        )
        check_adapter(adapter, tied, what=str(path))
        left_out = named_left_out(str(path), adapter.ignored, "not in the base, or another task's head")
        return Input(
            path=path, files=(tensors,), is_delta=True, weight=weight, adapter=adapter, tied=tied, left_out=left_out
        )
    if not is_remote(path) and not Path(path).exists():
        raise UserInputError(f"{path}: expected a model folder, an adapter folder or a delta file, and there is none")
    if not is_remote(path):
        refuse_nested(Path(path))
    found = open_checkpoint_or_tensors(path)
    if isinstance(found, TensorFile):
        if found.header.metadata.get("format") == FORMAT:
            return delta_input(base, found, weight, tied=tied, path=path)
        found = open_file(weights_alone(found, str(path)))
    found = open_as_floats(found)
    found = untied_model(found) if base.is_untied else found
    model, fitting, left_out = fit(base, found, what=str(path), tied=tied)
    return Input(
        path=path, files=tuple(model.files.values()), is_delta=False, weight=weight, tied=tied, fitting=fitting,
        left_out=(*found.left_out_as_read(str(path)), *left_out),
    )  # fmt: skip


def delta_input(  # noqa: PLR0913 - what there is to say, by keyword
    base: Checkpoint,
    file: TensorFile,
    weight: float,
    *,
    tied: Tied,
    path: Location,
    digest: str | None = None,
    base_digest: str | None = None,
    mask: TensorFile | None = None,
) -> Input:
    """Check a delta against the base, and return it as an input.

    Args:
        base: The base.
        file: The delta.
        weight: How much it counts.
        tied: The base's copies, as `find_tied` finds them.
        path: The delta's name or place, for people.
        digest: The delta's digest, where it is known; None: it is read when somebody asks for it.
        base_digest: Digest of the model that the delta is relative to, where that is an older one with the same schema.
        mask: The mask that the delta names, where it names one; None: it is looked for beside the delta.

    Raises:
        CodecError: The file is no delta, or one of another version.
        SchemaMismatchError: It does not fit the base.
    """
    mask = mask or mask_beside(path, file)
    encoded = check_delta(
        file.header, base.schema, base_digest=base_digest or base.digest(), what=str(path),
        mask=mask.header if mask else None,
    )  # fmt: skip
    check_changes(file, encoded, tied, what=str(path), mask=mask)
    return Input(
        path=path, files=(file, mask) if mask else (file,), is_delta=True, weight=weight, tied=tied,
        known_digest=digest, encoded=encoded, shapes={name: base.schema[name] for name in encoded},
    )  # fmt: skip


def in_fusing_order(inputs: Sequence[Input]) -> list[Input]:
    """Sort by what the inputs hold: sums of floats depend on their order, which must not be that of arrival.

    A model is read whole only if its samples are those of another one.
    """
    by_place: dict[str, list[Input]] = defaultdict(list)
    for item in inputs:
        by_place[item.place].append(item)
    ordered: list[Input] = []
    for key in sorted(by_place):
        group = by_place[key]
        ordered += group if len(group) == 1 else sorted(group, key=_among_twins)
    return ordered


def _among_twins(item: Input) -> tuple[str, float, str]:
    """Return what inputs with the same samples are ordered by; twins count as much whichever comes first."""
    return item.digest, item.weight, repr(sorted(item.settings.items()))


def content_digests(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return the digest of all that each input holds; reads what is not known."""
    with ThreadPoolExecutor(_DIGESTS_AT_A_TIME) as pool:
        return tuple(pool.map(lambda item: item.digest, inputs))


def _read_at_most(file: File) -> bytes:
    data = bytearray(min(file.size_bytes, MAX_MANIFEST_BYTES + 1))
    with opened(file) as reader:
        reader.read_into(memoryview(data), 0)
    return bytes(data)
