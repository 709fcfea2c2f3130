"""Fuse model folders and delta files on this machine, without a federation."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from coldfuse.aggregator.execution import Executor
from coldfuse.aggregator.files import LocalSource
from coldfuse.aggregator.fuse import FusedPart, Fusion, block_elements, fuse_shard, run_plan
from coldfuse.aggregator.plan import Shard, check_models, operands, plan_shards
from coldfuse.codec.deltas import FORMAT, check_delta
from coldfuse.codec.header import Header
from coldfuse.codec.local_file import LocalFile
from coldfuse.codec.manifests import sha256
from coldfuse.codec.model_digest import model_digest
from coldfuse.codec.model_folder import ModelFolder, open_model_folder, read_file_header
from coldfuse.errors import UserInputError

_SAMPLES = 64
_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class Input:
    """One model folder or delta file to be fused."""

    files: tuple[LocalSource, ...]
    is_delta: bool
    weight: float


@dataclass(frozen=True, kw_only=True)
class FolderFusion:
    """A fusion whose parts go to files of one folder."""

    out: Path
    fusion: Fusion


def fuse_part(job: FolderFusion, shard: Shard) -> FusedPart:
    """Fuse one part and write it at its place."""
    data, blocks = fuse_shard(job.fusion, shard)
    with open(job.out / shard.file, "r+b") as file:
        file.seek(shard.start)
        file.write(data)
    return FusedPart(part=None, blocks=blocks)


def fuse_folders(
    base: Path, models: Sequence[Path], out: Path, *, method: str, weights: Sequence[float], executor: Executor
) -> str:
    """Fuse models on a base into the folder `out`, and return the fused model's digest.

    The result does not depend on the order of `models`. `out` appears when it is whole.
    """
    if out.exists():
        raise UserInputError(f"{out}: exists already; give a folder that does not")
    folder = open_model_folder(base)
    base_digest = cache(folder.digest)  # only deltas name their base, and it takes a read of the whole model
    inputs = [_open_input(folder, path, weight, base_digest) for path, weight in zip(models, weights, strict=True)]
    inputs = _in_order_of_content(inputs)
    staging = _staging(out)
    try:
        digest = _run(folder, inputs, method, staging, executor)
        os.replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return digest


def _staging(out: Path) -> Path:
    """Create a folder beside `out`, and remove those that killed processes left there."""
    for old in out.parent.glob(f".{out.name}.fusing-*"):
        if not psutil.pid_exists(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    staging = out.parent / f".{out.name}.fusing-{os.getpid()}"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserInputError(f"{out}: cannot be created: {error.strerror}") from error
    return staging


def _run(folder: ModelFolder, inputs: Sequence[Input], method: str, out: Path, executor: Executor) -> str:
    sources = [LocalSource(folder.path / file, header) for file, header in folder.headers.items()]
    contributions = [operands(item.files, is_delta=item.is_delta) for item in inputs]
    plan = plan_shards(folder.headers, base=operands(sources, is_delta=False), contributions=contributions)
    fusion = Fusion(
        store_url=None,
        method=method,
        weights=tuple(item.weight for item in inputs),
        block_elements=block_elements(plan, is_local=True, task_bytes=executor.task_bytes),
    )
    for file, header in folder.headers.items():
        _begin_file(folder.path / file, out / file, header)
    for file in folder.plain:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder.path / file, out / file)
    _, blocks = run_plan(executor, fuse_part, FolderFusion(out=out, fusion=fusion), plan)
    return model_digest(folder.schema, blocks)


def _begin_file(source: Path, target: Path, header: Header) -> None:
    """Create a file of the final size that holds the header."""
    data = bytearray(header.size_bytes)
    with LocalFile(source) as file:
        file.read_into(memoryview(data), 0)
    with open(target, "wb") as file_out:
        file_out.write(data)
        file_out.truncate(header.file_bytes)


def _open_input(base: ModelFolder, path: Path, weight: float, base_digest: Callable[[], str]) -> Input:
    if path.is_dir():
        model = open_model_folder(path)
        check_models(base.schema, model.schema, what=str(path))
        files = tuple(LocalSource(path / file, header) for file, header in model.headers.items())
        return Input(files, is_delta=False, weight=weight)
    if not path.is_file():
        raise UserInputError(f"{path}: expected a model folder or a delta file, and there is neither")
    header = read_file_header(path)
    if header.metadata.get("format") != FORMAT:
        raise UserInputError(f"{path}: a safetensors file but no coldfuse delta; give the model's folder instead")
    check_delta(header, base.schema, base_digest=base_digest(), what=str(path))
    return Input((LocalSource(path, header),), is_delta=True, weight=weight)


def _in_order_of_content(inputs: Sequence[Input]) -> list[Input]:
    """Sort by what the inputs hold, without reading all of it unless samples are equal."""
    by_sample: dict[str, list[Input]] = defaultdict(list)
    for item in inputs:
        by_sample[_content_key(item, _SAMPLES)].append(item)
    ordered: list[Input] = []
    for key in sorted(by_sample):
        group = by_sample[key]
        ordered += group if len(group) == 1 else sorted(group, key=lambda item: (_content_key(item, None), item.weight))
    return ordered


def _content_key(item: Input, samples: int | None) -> str:
    """Hash some evenly spaced samples of each file, or all of it (None)."""
    digests = []
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
