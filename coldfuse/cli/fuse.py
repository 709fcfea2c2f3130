"""Fusing without a federation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.cli.fuse_output import AS, DTYPE, RANK, SHARD_SIZE, Dtype, Kind, located, located_file, output_of
from coldfuse.cli.fuse_view import EXPLAIN, JSON, PLAN, Explained, View, describe_and_show, fuse_and_show
from coldfuse.cli.recipe import FLAVOUR, METHOD, PARAM, recipe_of
from coldfuse.cli.search import (
    DATA,
    HEAD,
    LABEL_COLUMN,
    TEXT_COLUMN,
    TEXT_PAIR_COLUMN,
    TUNE,
    Evidence,
    require_one_fusion,
    searched,
)
from coldfuse.cli.units import parse_size
from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.engine.folder_fusion import FolderFusion


def fuse(
    base: str = typer.Argument(help="The base model: a folder, s3://BUCKET/PREFIX, or a hub id.", show_default=False),
    models: list[str] = typer.Argument(
        help="Fine-tuned models the same way, adapters' folders, or coldfuse delta files.", show_default=False
    ),
    out: Path = typer.Option(..., help="The folder, or delta file, to create.", show_default=False),
    method: str = METHOD,
    param: list[str] = PARAM,
    flavour: str | None = FLAVOUR,
    weights: str | None = typer.Option(None, help="One number a model, in their order: 1000,500."),
    statistics: list[str] = typer.Option([], help="One file of statistics a model, in their order; say it once each."),
    seed: str = typer.Option("0", help="What random masks depend on, beside the models."),
    workers: int | None = typer.Option(None, min=1, help="Threads; one a processor by default."),
    memory: str | None = typer.Option(None, help="Memory for all workers, 2GiB; an eighth of the machine by default."),
    use_ray: bool = typer.Option(False, "--ray", help="Run on Ray instead of threads; the result is the same."),
    device: str = typer.Option("cpu", help="Where methods work that can: cpu, cuda, cuda:1; --plan says which."),
    kind: Kind = AS,
    shard_size: str | None = SHARD_SIZE,
    dtype: Dtype = DTYPE,
    rank: int | None = RANK,
    plan: bool = PLAN,
    explain: Explained | None = EXPLAIN,
    as_json: bool = JSON,
    data: list[Path] = DATA,
    head: list[Path] = HEAD,
    tune: str | None = TUNE,
    text_column: str | None = TEXT_COLUMN,
    text_pair_column: str | None = TEXT_PAIR_COLUMN,
    label_column: str | None = LABEL_COLUMN,
) -> None:
    """Fuse model folders or delta files on a base, without a federation.

    The result is the same in any order of the models (unless the method says otherwise), and in any number of threads.
    `coldfuse methods` lists the methods and their parameters.

    Example: coldfuse fuse ./base ./alice ./bob --method "clip then ties(density=0.3)" --out ./fused
    """
    from coldfuse.config import prepare_ray
    from coldfuse.engine.execution import Executor, ThreadExecutor, ray_executor
    from coldfuse.engine.folder_fusion import FolderFusion

    recipe = recipe_of(method, param, flavour, may_search=True)
    memory_bytes = parse_size(memory) if memory else None
    request = FolderFusion(
        base=located(base), models=[located(model) for model in models], out=out, recipe=recipe,
        weights=_weights(weights, len(models)), statistics=[located_file(path) for path in statistics], seed=seed,
        device=device, output=output_of(kind, shard_size=shard_size, dtype=dtype, rank=rank, base_name=base),
    )  # fmt: skip
    evidence = Evidence(
        data=data, head=head, tune=tune, text_column=text_column, text_pair_column=text_pair_column,
        label_column=label_column,
    )  # fmt: skip
    view = View(explain=explain, as_json=as_json)
    with _said(out), ExitStack() as stack:
        executor: Executor = ThreadExecutor(workers or os.cpu_count() or 1, memory_bytes=memory_bytes)
        _check_state(request)
        if plan:
            require_one_fusion(request, evidence)
            describe_and_show(request, executor, view)
            return
        if use_ray:
            prepare_ray()
            executor = stack.enter_context(
                ray_executor(None, num_cpus=workers, memory_bytes=memory_bytes, device=device)
            )
        found = searched(request, executor, evidence, memory_bytes=memory_bytes, as_json=as_json)
        fuse_and_show(request, executor, view, method=method, found=found)


def _check_state(request: FolderFusion) -> None:
    """Refuse an outer state that other steps made, before anything else takes time."""
    from coldfuse.engine.state import check_outers
    from coldfuse.tensors.checkpoint import open_checkpoint

    if request.recipe.slots:
        check_outers(open_checkpoint(request.base), request.recipe)


@contextmanager
def _said(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserInputError(
            f"{error.filename or out}: cannot be written or read: {error.strerror or error}"
        ) from error


def _weights(text: str | None, num_models: int) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserInputError(f"--weights {text}: expected numbers separated by commas") from None
    if len(numbers) != num_models or not all(abs(number) < float("inf") for number in numbers):
        raise UserInputError(f"--weights {text}: expected {num_models} numbers, one a model")
    return numbers
