"""Fusing folders in one call, as `coldfuse fuse` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldfuse.engine.execution import Executor, ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe


def fuse(
    base: Path,
    models: Sequence[Path],
    out: Path,
    method: str = "mean",
    *,
    executor: Executor | None = None,
    **more: Any,
) -> str:
    request = FolderFusion(base=base, models=models, out=out, recipe=read_recipe(method), **more)
    return fuse_folders(request, executor or ThreadExecutor(2)).digest
