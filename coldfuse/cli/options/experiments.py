"""Options of the commands that show and measure: demo, bench and experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.shared import AsJson

_CHANGED = "Instead of what the setting says"

Runs = Annotated[int, typer.Option(min=1, help="Counted runs; one more warms up.")]
BenchStore = Annotated[str | None, typer.Option(help="s3://BUCKET/PREFIX for a store there; a folder by default.")]
Folder = Annotated[Path | None, typer.Option(help="Where to put the files; the system's temporary folder by default.")]


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Run a whole federation on this machine: a gateway, a Ray aggregator, four contributors with real, different data.

    One of them has shuffled labels, and the federation's gate finds it. Needs no network. Shows how the shared model
    improves and who was left out, and leaves it in a folder.

    Example: coldfuse demo --fast
    """

    out: Annotated[Path | None, typer.Option(help="A new folder for everything; coldfuse-demo by default.")] = None
    fast: Annotated[bool, typer.Option("--fast", help="Fewer rounds and examples, which takes less time.")] = False
    base: Annotated[
        str | None, typer.Option(help="Another base: a model folder or hub id; the bundled MiniLM by default.")
    ] = None
    seed: Annotated[int, typer.Option(help="Decides split, order and dropout at every contributor.")] = 0


@dataclass(frozen=True, kw_only=True)
class BenchFuseOptions:
    """Fusing models of random numbers by `coldfuse fuse`, beside reading the same files.

    Example: coldfuse bench fuse --methods mean,ties,median --shape llama-0.5b --dtype BF16 --json
    """

    methods: Annotated[
        str, typer.Option(help='Methods or recipes, separated by commas: mean,ties,"dare then mean".')
    ] = "mean"
    shape: Annotated[Literal["square", "minilm", "llama-0.5b"], typer.Option(help="Shape of the models.")] = "square"
    parameters: Annotated[
        str | None, typer.Option(help="Size of the models, 22M or 0.5B; as the shape's original has.")
    ] = None
    contributions: Annotated[int, typer.Option(min=1, help="Models to fuse on the base.")] = 8
    dtype: Annotated[Literal["F32", "BF16", "F16"], typer.Option(help="Dtype of the models.")] = "F32"
    workers: Annotated[int | None, typer.Option(min=1, help="Threads or Ray workers; one a processor by default.")] = (
        None
    )
    use_ray: Annotated[bool, typer.Option("--ray", help="Fuse on Ray.")] = False
    device: Annotated[str, typer.Option(help="Where whole matrices are worked on: cpu, cuda, cuda:1.")] = "cpu"
    runs: Runs = 5
    folder: Folder = None
    models: Annotated[
        Path | None, typer.Option(help="Keeps the models for the next time; they are removed by default.")
    ] = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class BenchUploadOptions:
    """Uploading a file to a gateway, beside a bare gRPC stream, and beside boto3 where the store is on S3.

    Example: coldfuse bench upload --sizes 64,1024 --json
    """

    sizes: Annotated[str, typer.Option(help="Sizes of the file, in MiB.")] = "64,256,1024,2048"
    parallel: Annotated[int, typer.Option(min=1, help="Parts on their way at once.")] = 4
    store: Annotated[
        str | None,
        typer.Option(
            help="s3://BUCKET/PREFIX for a store there, null for one that keeps nothing of a part; a folder by default."
        ),
    ] = None
    runs: Runs = 5
    folder: Folder = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class BenchFetchOptions:
    """Fetching a release through a gateway and straight from its store, beside bare gRPC, boto3 and copying a file.

    Example: coldfuse bench fetch --sizes 64,1024 --json
    """

    sizes: Annotated[str, typer.Option(help="Sizes of the model, in MiB.")] = "64,256,1024"
    store: BenchStore = None
    runs: Runs = 5
    folder: Folder = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class BenchRoundOptions:
    """What is left of a round after its last contribution, in parts, beside reading the same bytes.

    Example: coldfuse bench round --contributors 16 --parameters 22M --json
    """

    contributors: Annotated[int, typer.Option(min=1, help="Contributors, who come at once.")] = 16
    parameters: Annotated[str, typer.Option(help="Size of the model, 22M or 0.5B.")] = "22M"
    method: Annotated[str, typer.Option(help="Fusion method.")] = "mean"
    workers: Annotated[int, typer.Option(min=1, help="Threads or Ray workers.")] = 2
    use_ray: Annotated[
        bool, typer.Option("--ray", help="Screen and fuse on Ray; operations of its tasks are not counted.")
    ] = False
    store: BenchStore = None
    runs: Runs = 3
    folder: Folder = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an experiment does otherwise than its setting says."""

    tasks: Annotated[
        str | None, typer.Option(help="Folders of the data, separated by commas.", rich_help_panel=_CHANGED)
    ] = None
    method: Annotated[
        list[str], typer.Option(help="A recipe to compare; may be repeated.", rich_help_panel=_CHANGED)
    ] = field(default_factory=list)
    examples: Annotated[
        int | None, typer.Option(min=8, help="How many each contributor trains on.", rich_help_panel=_CHANGED)
    ] = None
    parties: Annotated[int | None, typer.Option(min=1, help="How many share the task.", rich_help_panel=_CHANGED)] = (
        None
    )
    main_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of a party's examples that have its main label.", rich_help_panel=_CHANGED
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the examples.", rich_help_panel=_CHANGED)] = (
        None
    )
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's, at its highest.", rich_help_panel=_CHANGED)] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class FusionOptions:
    """Compare fusion methods: fine-tune on real tasks, fuse by each method, and score the fused models.

    Scales are chosen on validation data, scores are of test data.

    Example: coldfuse experiment fusion tasks --data ./data --work ./kept --seeds 0,1
    """

    setting: Annotated[
        str,
        typer.Argument(
            help="tasks (own tasks, own heads), partitions (one task, fused heads) or robust (some are hostile).",
            show_default=False,
        ),
    ]
    data: Annotated[Path, typer.Option(help="A folder for each task, with train, test and perhaps validation files.")]
    work: Annotated[Path, typer.Option(help="Keeps models and scores; the same command goes on where it ended.")]
    base: Annotated[str | None, typer.Option(help="A model folder or hub id; the demo's MiniLM by default.")] = None
    seeds: Annotated[str, typer.Option(help="Numbers, separated by commas.")] = "0,1,2"
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1
    as_json: Annotated[bool, typer.Option("--json", help="Print all scores as JSON.")] = False
    changes: Changes = field(default_factory=Changes)
