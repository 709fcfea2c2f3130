"""Fusing models, deltas and adapters on a base, without a federation: what `coldfuse.fuse` runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from coldfuse.api.bars import PassCount, Watching, pass_bar
from coldfuse.api.fused import FusedModel
from coldfuse.config import prepare_ray
from coldfuse.engine.execution import Executor, ThreadExecutor, ray_executor
from coldfuse.engine.expansions import expanded
from coldfuse.engine.folder_fusion import FolderFused, FolderFusion, fuse_prepared, prepare, require_absent
from coldfuse.engine.fuse import Prepared
from coldfuse.engine.preview import all_left_out, all_passes
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.settings import described, settings_of
from coldfuse.errors import UserInputError
from coldfuse.fusion.recipe import Recipe
from coldfuse.recipes.weights_file import FileSettings, read_weights_file, settings_of_document
from coldfuse.search.methods import SEARCHES

WITHOUT_RAY = "do without Ray, for the same result"
"""What helps where Ray is too slow to start."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a fusion runs."""

    workers: int | None = None
    """Number of threads or Ray workers; one a processor by default."""
    memory_bytes: int | None = None
    """Memory that they share; an eighth of the machine's by default."""
    use_ray: bool = False
    """True to run on a Ray that is started for it, instead of threads; the result is the same."""
    device: str = "cpu"
    """Device where methods work that can."""

    @property
    def threads(self) -> ThreadExecutor:
        """Threads to fuse on."""
        return ThreadExecutor(self.workers or os.cpu_count() or 1, memory_bytes=self.memory_bytes)

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """Yield what runs a fusion's tasks."""
        if not self.use_ray:
            yield self.threads
            return
        prepare_ray()
        with ray_executor(
            None, num_cpus=self.workers, memory_bytes=self.memory_bytes, device=self.device, instead=WITHOUT_RAY
        ) as executor:
            yield executor


def read_method(line: str, *, params: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe of methods that are formulas.

    Raises:
        UserInputError: A name or a value is not known, or a method searches on data.
    """
    if found := SEARCHES.keys() & set(re.findall(r"[a-z0-9-]+", line)):
        raise UserInputError(f"{found.pop()} searches on held-out data, so it is for coldfuse fuse --data")
    return read_recipe(line, params=params)


def run(request: FolderFusion, machine: Machine, progress: Watching) -> FusedModel:
    """Fuse. Raises as `fuse_folders`."""
    with explaining_files(request.out), machine.executor() as executor, ExitStack() as stack:
        require_absent(request.out)
        prepared = prepare(request, executor)
        stack.enter_context(expanded(prepared, request.out))
        if progress is True:
            with pass_bar(all_passes(prepared)) as show:
                made = fuse_prepared(prepared, request.out, executor, progress=show)
        else:
            count = None
            if progress:
                on_progress = progress
                count = PassCount(all_passes(prepared), lambda done, total, _what: on_progress(done, total))
            made = fuse_prepared(prepared, request.out, executor, progress=count)
    return _describe(request, prepared, made)


def _describe(request: FolderFusion, prepared: Prepared, made: FolderFused) -> FusedModel:
    each, shared = settings_of(made.fused.fusion)
    said = {str(item.path): own for item, own in zip(prepared.inputs, each, strict=True)}
    models = {str(model): said[str(model)] for model in request.models}  # one that is named twice, once
    adapter = made.adapter
    return FusedModel(
        weights={"models": models, **({"parameters": shared} if shared else {})},
        path=request.out, digest=made.digest, method=described(made.fused.fusion), moved=made.fused.moved,
        adapter_error=adapter.relative_error if adapter else None,
        adapter_dropped=adapter.dropped if adapter else {}, adapter_unchecked=adapter.unchecked if adapter else "",
        left_out=all_left_out(prepared),
    )  # fmt: skip


@contextmanager
def explaining_files(out: Path) -> Iterator[None]:
    """Turn an `OSError` of a fusion into a `UserInputError` that names the file."""
    try:
        yield
    except OSError as error:
        raise UserInputError(
            f"{error.filename or out}: cannot be written or read: {error.strerror or error}"
        ) from error


def read_weights(
    given: Sequence[float] | Mapping[str, object] | str | os.PathLike[str] | None, models: Sequence[str]
) -> tuple[list[float] | None, FileSettings | None]:
    """Return weights as one number a model, or as a weights file says them, given that or its content.

    Raises:
        UserInputError: They are none, or not of these models.
    """
    if given is None:
        return None, None
    if isinstance(given, Mapping):
        return None, settings_of_document(given, models, "weights")
    if isinstance(given, str | os.PathLike):
        return None, read_weights_file(Path(given), models)
    return check_weights(given, len(models), given=f"weights={given}"), None


def check_weights(weights: Sequence[float], num_models: int, *, given: str) -> list[float]:
    """Return weights as numbers. Raises `UserInputError` unless there is a finite one for each model."""
    numbers = [float(weight) for weight in weights]
    if len(numbers) != num_models or not all(abs(number) < float("inf") for number in numbers):
        raise UserInputError(f"{given}: expected {num_models} numbers, one a model")
    return numbers
