"""`coldfuse.fuse` and `coldfuse.methods`: light to import, whatever is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coldfuse.extras import requiring

if TYPE_CHECKING:
    from coldfuse.api.bars import Watching
    from coldfuse.api.fused import FusedModel, Methods

Place = str | os.PathLike[str]


def fuse(  # noqa: PLR0913 - every setting of a fusion, by keyword
    base: Place,
    models: Sequence[Place],
    *,
    out: str | os.PathLike[str],
    method: str = "mean",
    weights: Sequence[float] | Mapping[str, object] | Place | None = None,
    statistics: Sequence[Place] = (),
    seed: str = "0",
    kind: Literal["model", "delta", "adapter"] = "model",
    dtype: Literal["F32", "BF16", "F16"] = "F32",
    shard_bytes: int | None = None,
    rank: int | None = None,
    workers: int | None = None,
    memory_bytes: int | None = None,
    use_ray: bool = False,
    device: str = "cpu",
    residual: bool = False,
    with_code: bool = False,
    untie: bool = False,
    progress: Watching = None,
) -> FusedModel:
    """Fuse model folders, coldfuse deltas and PEFT adapters on a base, without a federation.

    The same models give the same bytes in any order (unless the method says otherwise), in any number of threads, and
    by `coldfuse fuse`.

    >>> fuse("base", ["alice", "bob"], method="magic", out="fused")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    coldfuse.errors.UserInputError: fusion method 'magic' is not known; known are mean, ...

    Args:
        base: The base model: a folder, one safetensors file, `s3://BUCKET/PREFIX`, or a hub id. FP8 with scales is
            read, and written, as BF16.
        models: Fine-tuned models the same way, adapters' folders, or delta files; mixed freely.
        out: The folder, or delta file, to create.
        method: A method with its parameters, or steps joined by then: `clip then ties(density=0.3) then nesterov`.
        weights: One number a model, in their order, for methods that weigh; or a weights file, or what it holds:
            `{"models": {"alice": {"weight": [0, 1], "density": 0.3}}, "parameters": {"scale": 0.9}}`, where a list goes
            from the first layer to the last, and `[{"filter": "mlp", "value": 0.5}, {"value": 0.3}]` by tensors' names.
        statistics: One file of statistics a model, in their order, for methods that ask for them.
        seed: What random masks depend on, beside the models.
        kind: What is made: a model's folder, a delta file, or a PEFT adapter's folder.
        dtype: Dtype of a delta or of an adapter's factors; a model keeps the base's.
        shard_bytes: Size of a model's files; the base's own files by default.
        rank: Columns of an adapter's factors.
        workers: Threads or Ray workers; one a processor by default.
        memory_bytes: Memory that they share; an eighth of the machine's by default.
        use_ray: True to run on Ray instead of threads; the result is the same.
        device: Where whole matrices are worked on: cpu, cuda, cuda:1.
        residual: True to keep what rounding to bfloat16 or float16 drops, for the next fusion on the result, as a
            federation does.
        with_code: True to copy the Python files that the base's configuration names; they are never run here.
        untie: True to store the head beside the embedding that the base ties it to, so that heads and embeddings that
            were trained apart can be fused.
        progress: True for a bar, or a function that is called with the bytes done and those in all.

    Raises:
        MissingExtraError: The libraries that fusing needs are not installed.
        UserInputError: An input or setting cannot be used, or `out` exists already.
        SchemaMismatchError: A model does not fit the base.
        FusionError: The method refuses these models.
    """
    with requiring("coldfuse.fuse", "fuse"):
        from coldfuse.api import fusing, places  # noqa: PLC0415 - numba comes with the first fusion
        from coldfuse.engine.folder_fusion import FolderFusion  # noqa: PLC0415
        from coldfuse.engine.outputs import Output  # noqa: PLC0415

        recipe = fusing.read_method(method)
        output = Output(kind=kind, dtype=dtype, shard_bytes=shard_bytes, rank=rank, base_name=os.fspath(base))
        numbers, said = fusing.read_weights(weights, [os.fspath(model) for model in models])
        settings, shared = (said.models, said.shared) if said else ((), {})
        request = FolderFusion(
            base=places.locate(base), models=[places.locate(model) for model in models], out=Path(out), recipe=recipe,
            weights=numbers, settings=settings, shared=shared, seed=seed, device=device, output=output,
            statistics=[places.locate_file(file) for file in statistics], keeps_residual=residual, with_code=with_code,
            untie=untie,
        )  # fmt: skip
        machine = fusing.Machine(workers=workers, memory_bytes=memory_bytes, use_ray=use_ray, device=device)
        return fusing.run(request, machine, progress)


def methods() -> Methods:
    """Return all fusion methods by name: what each computes, its paper and its parameters.

    >>> known = methods()
    >>> print(known["trimmed-mean"])  # doctest: +ELLIPSIS
    trimmed-mean: ...
    >>> known["ties"].parameters["density"].default
    0.2

    Raises:
        MissingExtraError: The libraries that fusing needs are not installed.
        UserInputError: An installed package's method cannot be loaded.
    """
    with requiring("coldfuse.methods", "fuse"):
        from coldfuse.api.methods import list_methods  # noqa: PLC0415 - numba comes with the methods

        return list_methods()
