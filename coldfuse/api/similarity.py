"""`coldfuse.similarity`: how alike models are; light to import, whatever is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from coldfuse.api.model_names import fetching
from coldfuse.extras import requiring

if TYPE_CHECKING:
    from coldfuse.evaluation.likeness import Similarity

Place = str | os.PathLike[str]


def similarity(  # noqa: PLR0913 - what there is to say, by keyword
    models: Sequence[Place],
    *,
    base: Place | None = None,
    texts: Sequence[str] | None = None,
    max_length: int = 128,
    threads: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    memory_bytes: int | None = None,
    root: str | None = None,
    on_model: Callable[[str], None] | None = None,
) -> Similarity:
    """Say how alike models are, each with each: by their weights, and by what they make of texts.

    Args:
        models: Folders, hub ids, releases of federations (`SOURCE@7`, `SOURCE@latest`), or deltas and adapters;
            two or more.
        base: What task vectors are changes of, and the base of deltas and adapters. None: weights themselves are
            compared, which are alike for all models of one origin.
        texts: Texts that pass through every model; None: by the weights alone. Models of different shapes can be
            compared by texts alone.
        max_length: Tokens of a text that are read.
        threads: Processor threads for the texts; torch's choice by default.
        device: Where texts pass through: cpu, cuda or auto.
        workers: Threads for the weights; one a processor by default.
        memory_bytes: Memory that they share; an eighth of the machine's by default.
        root: The fingerprint of the federations whose releases are named, as in `connect`.
        on_model: Called with each model's name before it is loaded.

    Raises:
        MissingExtraError: The libraries that this needs are not installed.
        UserInputError: A model cannot be read or loaded, or there are too few models or texts.
        SchemaMismatchError: Models have different shapes, and there are no texts to compare them by.
        ColdfuseError: A release cannot be fetched.
    """
    with requiring("coldfuse.similarity", "evaluate"):
        from coldfuse.api.comparing import ComparisonRequest, run_comparison  # noqa: PLC0415 - numba comes with it
        from coldfuse.api.fusing import Machine  # noqa: PLC0415

        request = ComparisonRequest(
            models=models, base=base, texts=None if texts is None else tuple(texts), max_length=max_length,
            threads=threads, device=device, machine=Machine(workers=workers, memory_bytes=memory_bytes),
        )  # fmt: skip
        return run_comparison(request, fetching(root), on_model=on_model or (lambda _: None))
