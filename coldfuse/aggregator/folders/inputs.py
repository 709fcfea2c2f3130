"""What `coldfuse fuse` is given: model folders and delta files, with their weights and statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from coldfuse.aggregator.engine.plan import Operands, operands
from coldfuse.aggregator.folders.mismatches import check_model
from coldfuse.aggregator.folders.remote_folder import (
    FileSource,
    Folder,
    Location,
    digests_at,
    files_of,
    is_remote,
    open_adapter_file,
    open_file,
    open_folder_or_file,
    read_adapter_config,
)
from coldfuse.codec.adapters import Adapter, read_adapter
from coldfuse.codec.deltas import FORMAT, check_delta
from coldfuse.codec.manifests import sha256
from coldfuse.errors import UserInputError
from coldfuse.fusion.method import Statistic
from coldfuse.fusion.recipe import Recipe

_DIGESTS_AT_A_TIME = 4
_SAMPLES = 64
_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class Input:
    """One model folder, delta file or adapter folder to be fused."""

    files: tuple[FileSource, ...]
    is_delta: bool
    weight: float
    path: Location
    statistics: tuple[FileSource, ...] = ()
    adapter: Adapter | None = None

    @property
    def operands(self) -> Operands | Adapter:
        """Where its tensors lie."""
        return self.adapter or operands(self.files, is_delta=self.is_delta)

    @cached_property
    def name(self) -> str:
        """Name the content, for random numbers."""
        return _content_key(self, _SAMPLES)


def open_inputs(
    base: Folder, models: Sequence[Location], weights: Sequence[float], recipe: Recipe, statistics: Sequence[Location]
) -> list[Input]:
    """Open all inputs, and check that they fit the base."""
    kind = next((step.statistic for step in recipe.steps if step.statistic), None)
    if (kind is not None) != bool(statistics) or len(statistics) not in (0, len(models)):
        wanted = f"one file of {kind} statistics a model, in their order" if kind else "none: the method uses none"
        raise UserInputError(f"--statistics: expected {wanted}, got {len(statistics)} for {len(models)} models")
    base_digest = cache(base.digest)  # only deltas name their base, and it takes a read of the whole model
    with ThreadPoolExecutor(_DIGESTS_AT_A_TIME) as pool:
        digests = list(pool.map(_digest, models)) if statistics else [None] * len(models)
    return [
        open_input(base, path, weight, base_digest, _open_statistics(base, kind, statistics[i : i + 1], digests[i]))
        for i, (path, weight) in enumerate(zip(models, weights, strict=True))
    ]


def open_input(
    base: Folder,
    path: Location,
    weight: float,
    base_digest: Callable[[], str],
    statistics: tuple[FileSource, ...] = (),
) -> Input:
    """Open one input, and check that it fits the base."""
    if (adapter_config := read_adapter_config(path)) is not None:
        file = open_adapter_file(path)
        adapter = read_adapter(adapter_config, file.name, file.header, base.schema, what=str(path))
        return Input((file,), is_delta=True, weight=weight, path=path, statistics=statistics, adapter=adapter)
    if not is_remote(path) and not Path(path).exists():
        raise UserInputError(f"{path}: expected a model folder, an adapter folder or a delta file, and there is none")
    opened = open_folder_or_file(path)
    if isinstance(opened, Folder):
        check_model(base, opened, what=str(path))
        files = tuple(files_of(opened).values())
        return Input(files, is_delta=False, weight=weight, path=path, statistics=statistics)
    header = opened.header
    if header.metadata.get("format") != FORMAT:
        raise UserInputError(f"{path}: a safetensors file but no coldfuse delta; give the model's folder instead")
    check_delta(header, base.schema, base_digest=base_digest(), what=str(path))
    return Input((opened,), is_delta=True, weight=weight, path=path, statistics=statistics)


def in_order_of_content(inputs: Sequence[Input]) -> list[Input]:
    """Sort by what the inputs hold, without reading all of it unless samples are equal."""
    by_sample: dict[str, list[Input]] = defaultdict(list)
    for item in inputs:
        by_sample[item.name].append(item)
    ordered: list[Input] = []
    for key in sorted(by_sample):
        group = by_sample[key]
        ordered += group if len(group) == 1 else sorted(group, key=lambda item: (_content_key(item, None), item.weight))
    return ordered


def _open_statistics(
    base: Folder, kind: Statistic | None, paths: Sequence[Location], of: str | None
) -> tuple[FileSource, ...]:
    from coldfuse.codec.statistics import check_statistics

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


def _content_key(item: Input, samples: int | None) -> str:
    """Hash some evenly spaced samples of each file, or all of it (None)."""
    digests = [item.adapter.config_digest] if item.adapter else []
    for source in item.files:
        size = source.header.file_bytes
        length = (1 << 20) if samples is None else _SAMPLE_BYTES
        step = length if samples is None else max(size // samples, length)
        digests += digests_at(source, range(0, size, step), length)
    return sha256("".join(digests).encode())
