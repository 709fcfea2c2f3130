"""Options of `coldfuse fuse` and `coldfuse methods`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.shared import DATA_PANEL, AsJson, Columns, RecipeWords

_OUTPUT_PANEL = "Output"


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is made."""

    kind: Annotated[
        Literal["model", "delta", "adapter"],
        typer.Option(
            "--as",
            help="What OUT is: a model's folder, a coldfuse delta file on the base, or a PEFT adapter's folder (the "
            "closest low-rank factors of the fused delta).",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ] = "model"
    with_code: Annotated[
        bool,
        typer.Option(
            "--with-code",
            help="Copy the Python files that the base's configuration names (auto_map) into the model, too. They are "
            "never run here.",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ] = False
    untie: Annotated[
        bool,
        typer.Option(
            "--untie",
            help="Store the head beside the embedding that the base ties it to (tie_word_embeddings false), so that "
            "heads and embeddings that were trained apart can be fused.",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ] = False
    shard_size: Annotated[
        str | None,
        typer.Option(
            help="Cut the model into files of this size, 5GB; by default it has the base's files.",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ] = None
    dtype: Annotated[
        Literal["F32", "BF16", "F16"],
        typer.Option(
            help="Of a delta or of an adapter's factors; a model keeps the base's.", rich_help_panel=_OUTPUT_PANEL
        ),
    ] = "F32"
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="Of an adapter: how many columns its factors have.", rich_help_panel=_OUTPUT_PANEL),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a search looks at."""

    tune: Annotated[
        str | None,
        typer.Option(
            "--tune",
            help="Try values of a parameter and keep the best: scale=0.1:1.0:0.1, or ties.density=0.1,0.2,0.5.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="Held-out examples that --tune, greedy-soup, learned-soup and adamerging look at: CSV, TSV, JSON, "
            "Parquet or Arrow, a file, a folder or what else `coldfuse contribute` reads; once for each task.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = field(default_factory=list)
    head: Annotated[
        list[Path],
        typer.Option(
            "--head",
            help="For learned-soup and adamerging, each task's head.safetensors, in the order of --data. Without it "
            "a linear head is fitted to half of the data; with it, adamerging needs no labels.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the fusion runs."""

    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one a processor by default.")] = None
    memory: Annotated[
        str | None, typer.Option(help="Memory for all workers, 2GiB; an eighth of the machine by default.")
    ] = None
    use_ray: Annotated[bool, typer.Option("--ray", help="Run on Ray instead of threads; the result is the same.")] = (
        False
    )
    device: Annotated[str, typer.Option(help="Where whole matrices are worked on: cpu, cuda, cuda:1; see --plan.")] = (
        "cpu"
    )


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown."""

    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only print what would be read, in which passes and with how much memory."),
    ] = False
    explain: Annotated[
        Literal["model", "tensors"] | None,
        typer.Option(
            help="Print how much of each model's delta is in the result, for the model or also tensor by tensor."
        ),
    ] = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class FuseOptions:
    """Fuse model folders or delta files on a base, without a federation.

    The result is the same in any order of the models (unless the method says otherwise), and in any number of threads.
    `coldfuse methods` lists the methods and their parameters.

    Example: coldfuse fuse ./base ./alice ./bob --method "clip then ties(density=0.3)" --out ./fused
    """

    base: Annotated[
        str | None,
        typer.Argument(
            metavar="BASE",
            help="The base model: a folder, one safetensors file, s3://BUCKET/PREFIX, or a hub id. FP8 with scales is "
            "read, and written, as BF16.",
            show_default=False,
        ),
    ] = None
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS",
            help="Fine-tuned models the same way, adapters' folders, or coldfuse delta files.",
            show_default=False,
        ),
    ] = field(default_factory=list)
    out: Annotated[Path, typer.Option(help="The folder, or delta file, to create.", show_default=False)]
    recipe: RecipeWords = field(default_factory=RecipeWords)
    weights: Annotated[str | None, typer.Option(help="One number a model, in their order: 1000,500.")] = None
    weights_file: Annotated[
        Path | None,
        typer.Option(
            help="YAML or JSON: {models: {alice: {weight: 0.7}, bob: {weight: [0, 1], density: [{filter: mlp, value: "
            "0.5}, {value: 0.3}]}}, parameters: {…}}: a number, a list from the first layer to the last, or the "
            "first filter that is a part of a tensor's name; parameters are for all models and the method.",
            show_default=False,
        ),
    ] = None
    recipe_file: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            help="YAML or JSON, in place of BASE and MODELS: a recipe of mergekit, or method, base, models and "
            "parameters as in --weights-file.",
            show_default=False,
        ),
    ] = None
    statistics: Annotated[
        list[str], typer.Option(help="One file of statistics a model, in their order; say it once each.")
    ] = field(default_factory=list)
    seed: Annotated[str, typer.Option(help="What random masks depend on, beside the models.")] = "0"
    residual: Annotated[
        bool,
        typer.Option(
            "--residual",
            help="Keep what rounding to BF16 or F16 drops, for the next fusion on the result, as a federation does.",
        ),
    ] = False
    machine: Machine = field(default_factory=Machine)
    view: View = field(default_factory=View)
    output: OutputOptions = field(default_factory=OutputOptions)
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, kw_only=True)
class MethodsOptions:
    """List the fusion methods, or one method's parameters.

    Example: coldfuse methods ties
    """

    name: Annotated[
        str | None, typer.Argument(help="Show only this method, with its parameters.", show_default=False)
    ] = None
    as_json: AsJson = False
