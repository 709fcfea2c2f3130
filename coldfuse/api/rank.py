"""`coldfuse.rank`: which base to start from; light to import, whatever is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from coldfuse.api.model_names import fetching
from coldfuse.extras import requiring

if TYPE_CHECKING:
    from coldfuse.evaluation.bases import Data
    from coldfuse.evaluation.ranking import Ranking

Place = str | os.PathLike[str]


def rank(  # noqa: PLR0913 - what there is to say, by keyword
    models: Sequence[Place],
    data: Place | Sequence[Place] | Data,
    *,
    base: Place | None = None,
    proxy: Place | Sequence[Place] | Data | None = None,
    task: Literal["text-classification", "regression"] = "text-classification",
    scores: Sequence[str] = (),
    examples: int = 1000,
    seeds: Sequence[int] = (0,),
    max_length: int = 128,
    threads: int | None = None,
    device: str = "auto",
    root: str | None = None,
    on_model: Callable[[str], None] | None = None,
) -> Ranking:
    """Score models as bases for a task without training them, on the same examples: which one to start from.

    Args:
        models: Folders, hub ids, releases of federations (`SOURCE@7`, `SOURCE@latest`), or deltas and adapters.
        data: Labelled texts, as files or read already.
        base: The base of deltas and adapters.
        proxy: Labelled texts of another, general task: the linear probe on them is the score `proxy`.
        task: What the labels are: classes, or of regression numbers to predict.
        scores: Names of the scores that are wanted, of `coldfuse.evaluation.ranking.SCORES`; all by default.
        examples: Examples of a draw, at most.
        seeds: One draw of examples for each; several show how far chance goes.
        max_length: Tokens of a text that are read.
        threads: Processor threads; torch's choice by default.
        device: cpu, cuda or auto.
        root: The fingerprint of the federations whose releases are named, as in `connect`.
        on_model: Called with each model's name before it is loaded.

    Raises:
        MissingExtraError: The libraries that this needs are not installed.
        UserInputError: A model cannot be loaded, or the data cannot be read or scored by.
        ColdfuseError: A release cannot be fetched.
    """
    with requiring("coldfuse.rank", "evaluate"):
        from coldfuse.api.ranking import RankRequest, run_ranking  # noqa: PLC0415 - torch comes with it
        from coldfuse.evaluation.bases import RankSettings  # noqa: PLC0415

        settings = RankSettings(
            names=tuple(scores), num_examples=examples, seeds=tuple(seeds), max_length=max_length, threads=threads,
            device=device,
        )  # fmt: skip
        request = RankRequest(models=models, data=data, base=base, proxy=proxy, task=task, settings=settings)
        return run_ranking(request, fetching(root), on_model=on_model or (lambda _: None))
