"""What `coldfuse fuse` is given: model folders and delta files, with their weights and statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coldfuse.aggregator.files import LocalSource
from coldfuse.aggregator.plan import Operands, check_models, operands
from coldfuse.codec.adapters import Adapter, is_adapter, open_adapter
from coldfuse.codec.deltas import FORMAT, check_delta
from coldfuse.codec.local_file import LocalFile
from coldfuse.codec.manifests import sha256
from coldfuse.codec.model_folder import ModelFolder, open_model_folder, read_file_header
from coldfuse.errors import UserInputError
from coldfuse.fusion.method import Statistic
from coldfuse.fusion.recipe import Recipe

_DIGESTS_AT_A_TIME = 4
_SAMPLES = 64
_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class Input:
    """One model folder, delta file or adapter folder to be fused."""

    files: tuple[LocalSource, ...]
    is_delta: bool
    weight: float
    path: Path
    statistics: tuple[LocalSource, ...] = ()
    adapter: Adapter | None = None

    @property
    def operands(self) -> Operands | Adapter:
        """Where its tensors lie."""
        return self.adapter or operands(self.files, is_delta=self.is_delta)

    @property
    def name(self) -> str:
        """Name the content, for random numbers."""
        return _content_key(self, _SAMPLES)


def open_inputs(
    base: ModelFolder, models: Sequence[Path], weights: Sequence[float], recipe: Recipe, statistics: Sequence[Path]
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
    base: ModelFolder,
    path: Path,
    weight: float,
    base_digest: Callable[[], str],
    statistics: tuple[LocalSource, ...] = (),
) -> Input:
    """Open one input, and check that it fits the base."""
    if is_adapter(path):
        adapter = open_adapter(path, base.schema, what=str(path))
        file = LocalSource(adapter.file, adapter.header)
        return Input((file,), is_delta=True, weight=weight, path=path, statistics=statistics, adapter=adapter)
    if path.is_dir():
        model = open_model_folder(path)
        check_models(base.schema, model.schema, what=str(path))
        files = tuple(LocalSource(path / file, header) for file, header in model.headers.items())
        return Input(files, is_delta=False, weight=weight, path=path, statistics=statistics)
    if not path.is_file():
        raise UserInputError(f"{path}: expected a model folder, an adapter folder or a delta file, and there is none")
    header = read_file_header(path)
    if header.metadata.get("format") != FORMAT:
        raise UserInputError(f"{path}: a safetensors file but no coldfuse delta; give the model's folder instead")
    check_delta(header, base.schema, base_digest=base_digest(), what=str(path))
    return Input((LocalSource(path, header),), is_delta=True, weight=weight, path=path, statistics=statistics)


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
    base: ModelFolder, kind: Statistic | None, paths: Sequence[Path], of: str | None
) -> tuple[LocalSource, ...]:
    from coldfuse.codec.statistics import check_statistics

    sources = tuple(LocalSource(path, read_file_header(path)) for path in paths)
    if kind is None:
        return ()
    for source in sources:
        check_statistics(source.header, base.schema, kind=kind, model=of, what=str(source.path))
    return sources


def _digest(path: Path) -> str | None:
    """Return a model folder's digest, to hold its statistics against; a delta or an adapter has none."""
    return open_model_folder(path).digest() if path.is_dir() and not is_adapter(path) else None


def _content_key(item: Input, samples: int | None) -> str:
    """Hash some evenly spaced samples of each file, or all of it (None)."""
    digests = [item.adapter.config_digest] if item.adapter else []
    for source in item.files:
        path, header = source.path, source.header
        step = _SAMPLE_BYTES if samples is None else max(header.file_bytes // samples, _SAMPLE_BYTES)
        length = (1 << 20) if samples is None else _SAMPLE_BYTES
        step = length if samples is None else step
        with LocalFile(path) as file:
            for start in range(0, header.file_bytes, step):
                data = bytearray(min(length, header.file_bytes - start))
                file.read_into(memoryview(data), start)
                digests.append(sha256(data))
    return sha256("".join(digests).encode())
