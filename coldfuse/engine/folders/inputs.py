"""What `coldfuse fuse` is given: model folders and delta files, with their weights and statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from coldfuse.adapters.adapter import Adapter, read_adapter
from coldfuse.core.serialization import sha256
from coldfuse.engine.folders.contents import FileSource, content_digest, sample_digest
from coldfuse.engine.folders.mismatches import check_model
from coldfuse.engine.folders.remote_folder import (
    Folder,
    Location,
    files_of,
    is_remote,
    open_adapter_file,
    open_file,
    open_folder_or_file,
    read_adapter_config,
)
from coldfuse.engine.folders.tied import Tied, by_first_name, check_adapter, check_files
from coldfuse.engine.plan import Operands, operands
from coldfuse.errors import UserInputError
from coldfuse.fusion.method import Statistic
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.deltas import FORMAT, check_delta

_DIGESTS_AT_A_TIME = 4


@dataclass(frozen=True)
class Input:
    """One model folder, delta file or adapter folder to be fused."""

    files: tuple[FileSource, ...]
    is_delta: bool
    weight: float
    path: Location
    statistics: tuple[FileSource, ...] = ()
    adapter: Adapter | None = None
    tied: Tied = field(default_factory=dict)
    """The base's tensors that are copies: what is here of one is found under the first one's name."""

    @property
    def operands(self) -> Operands | Adapter:
        """Where its tensors lie."""
        if self.adapter:
            return replace(self.adapter, tensors=by_first_name(self.adapter.tensors, self.tied))
        return self._known(self.files, is_delta=self.is_delta)

    @property
    def statistics_operands(self) -> Operands:
        """Where its statistics lie."""
        return self._known(self.statistics, is_delta=True)

    def _known(self, files: Sequence[FileSource], *, is_delta: bool) -> Operands:
        return Operands(by_first_name(operands(files, is_delta=is_delta).tensors, self.tied), is_delta)

    def digest(self) -> str:
        """Read it all, and name what it holds, however that is cut into files: what random numbers depend on."""
        return self._with_config(content_digest(self.files))

    @cached_property
    def sample_digest(self) -> str:
        """Name what samples of it hold: quick, and mostly enough to bring inputs into an order."""
        return self._with_config(sample_digest(self.files))

    def _with_config(self, digest: str) -> str:
        return digest if self.adapter is None else sha256(f"{digest}{self.adapter.config_digest}".encode())


def open_inputs(
    base: Folder,
    models: Sequence[Location],
    weights: Sequence[float],
    recipe: Recipe,
    statistics: Sequence[Location],
    *,
    tied: Tied,
) -> list[Input]:
    """Open all inputs, and check that they fit the base; `tied` names its copies."""
    kind = next((step.statistic for step in recipe.steps if step.statistic), None)
    if (kind is not None) != bool(statistics) or len(statistics) not in (0, len(models)):
        wanted = f"one file of {kind} statistics a model, in their order" if kind else "none: the method uses none"
        raise UserInputError(f"--statistics: expected {wanted}, got {len(statistics)} for {len(models)} models")
    base_digest = cache(base.digest)  # only deltas name their base, and it takes a read of the whole model
    with ThreadPoolExecutor(_DIGESTS_AT_A_TIME) as pool:
        digests = list(pool.map(_digest, models)) if statistics else [None] * len(models)
    return [
        replace(
            open_input(base, path, weight, base_digest, tied=tied),
            statistics=_open_statistics(base, kind, statistics[i : i + 1], digests[i]),
        )
        for i, (path, weight) in enumerate(zip(models, weights, strict=True))
    ]


def open_input(
    base: Folder,
    path: Location,
    weight: float,
    base_digest: Callable[[], str],
    *,
    tied: Tied,
) -> Input:
    """Open one input without its statistics, and check that it fits the base; `tied` names its copies."""
    if (adapter_config := read_adapter_config(path)) is not None:
        file = open_adapter_file(path)
        adapter = read_adapter(adapter_config, file.name, file.header, base.schema, what=str(path))
        check_adapter(adapter, tied, what=str(path))
        return Input((file,), is_delta=True, weight=weight, path=path, adapter=adapter, tied=tied)
    if not is_remote(path) and not Path(path).exists():
        raise UserInputError(f"{path}: expected a model folder, an adapter folder or a delta file, and there is none")
    opened = open_folder_or_file(path)
    if isinstance(opened, Folder):
        check_model(base, opened, what=str(path), tied=tied)
        files = tuple(files_of(opened).values())
        return Input(files, is_delta=False, weight=weight, path=path, tied=tied)
    header = opened.header
    if header.metadata.get("format") != FORMAT:
        raise UserInputError(f"{path}: a safetensors file but no coldfuse delta; give the model's folder instead")
    check_delta(header, base.schema, base_digest=base_digest(), what=str(path))
    check_files([opened], tied, what=str(path))
    return Input((opened,), is_delta=True, weight=weight, path=path, tied=tied)


def in_order_of_content(inputs: Sequence[Input]) -> list[Input]:
    """Sort by what the inputs hold, without reading all of it unless samples are equal."""
    by_sample: dict[str, list[Input]] = defaultdict(list)
    for item in inputs:
        by_sample[item.sample_digest].append(item)
    ordered: list[Input] = []
    for key in sorted(by_sample):
        group = by_sample[key]
        ordered += group if len(group) == 1 else sorted(group, key=lambda item: (item.digest(), item.weight))
    return ordered


def content_digests(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Name all inputs by all that they hold."""
    with ThreadPoolExecutor(_DIGESTS_AT_A_TIME) as pool:
        return tuple(pool.map(Input.digest, inputs))


def _open_statistics(
    base: Folder, kind: Statistic | None, paths: Sequence[Location], of: str | None
) -> tuple[FileSource, ...]:
    from coldfuse.tensors.statistics import check_statistics

    sources = tuple(open_file(path) for path in paths)
    if kind is None:
        return ()
    for source in sources:
        check_statistics(source.header, base.schema, kind=kind, model=of, what=str(source))
    return sources


def _digest(path: Location) -> str | None:
    """Return a model folder's digest, to hold its statistics against; a delta or an adapter has none."""
    if (not is_remote(path) and not Path(path).is_dir()) or read_adapter_config(path) is not None:
        return None
    opened = open_folder_or_file(path)
    return opened.digest() if isinstance(opened, Folder) else None
