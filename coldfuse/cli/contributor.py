"""The contributor's command."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from coldfuse.cli.node_view import node_view
from coldfuse.cli.source import tls_files
from coldfuse.cli.units import parse_duration
from coldfuse.errors import ColdfuseError
from coldfuse.processes import stop_on_signals

if TYPE_CHECKING:
    from coldfuse.contributor.node import Node, NodeSettings
    from coldfuse.gateway import Gateway

_DATA_PANEL = "The data"
_TRAINING_PANEL = "Training"
_CONNECTION_PANEL = "Connection"


def contribute(
    address: str = typer.Argument(help="The gateway, HOST:PORT.", show_default=False),
    data: Path = typer.Option(
        ..., help="Private examples: CSV, TSV, JSON lines or Parquet.", rich_help_panel=_DATA_PANEL
    ),
    validation: Path | None = typer.Option(
        None, help="Examples to validate on; a tenth of the data by default.", rich_help_panel=_DATA_PANEL
    ),
    text_column: str | None = typer.Option(
        None, help="Found by itself if it has a usual name.", rich_help_panel=_DATA_PANEL
    ),
    text_pair_column: str | None = typer.Option(None, help="Second text of pair tasks.", rich_help_panel=_DATA_PANEL),
    label_column: str | None = typer.Option(
        None, help="Found by itself if it has a usual name.", rich_help_panel=_DATA_PANEL
    ),
    name: str | None = typer.Option(None, help="Your name, which the whole federation sees; node-… by default."),
    work: Path | None = typer.Option(None, help="The node's folder; .coldfuse/NAME by default."),
    rounds: int | None = typer.Option(
        None, min=1, help="Rounds to take part in from now on; until stopped by default."
    ),
    once: bool = typer.Option(False, "--once", help="Contribute once, and end with the verdict, not with the release."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Train, show exactly what would leave the node, send nothing."
    ),
    epochs: int = typer.Option(
        3, min=1, help="At most; training ends early when validation stops improving.", rich_help_panel=_TRAINING_PANEL
    ),
    learning_rate: float = typer.Option(5e-5, help="Of AdamW, at its highest.", rich_help_panel=_TRAINING_PANEL),
    batch_size: int = typer.Option(32, min=1, rich_help_panel=_TRAINING_PANEL),
    max_length: int = typer.Option(128, min=5, help="Tokens of a text that are read.", rich_help_panel=_TRAINING_PANEL),
    tokens_at_once: int = typer.Option(
        4096, min=1, help="Tokens in memory at once; fewer need less of it.", rich_help_panel=_TRAINING_PANEL
    ),
    threads: int | None = typer.Option(
        None, min=1, help="Processor threads; torch's choice by default.", rich_help_panel=_TRAINING_PANEL
    ),
    device: str = typer.Option("auto", help="cpu, cuda or auto.", rich_help_panel=_TRAINING_PANEL),
    seed: int = typer.Option(0, help="Decides split, order and dropout.", rich_help_panel=_TRAINING_PANEL),
    encoding: str = typer.Option("F32", help="Dtype of the delta on its way: F32, BF16 or F16."),
    tls_ca: Path | None = typer.Option(
        None, help="Authority of the gateway's certificate, PEM.", rich_help_panel=_CONNECTION_PANEL
    ),
    tls_cert: Path | None = typer.Option(None, help="This node's certificate, PEM.", rich_help_panel=_CONNECTION_PANEL),
    tls_key: Path | None = typer.Option(None, help="Its private key, PEM.", rich_help_panel=_CONNECTION_PANEL),
    insecure: bool = typer.Option(
        False, "--insecure", help="Plain text to another machine.", rich_help_panel=_CONNECTION_PANEL
    ),
    patience: str = typer.Option(
        "2m", help="How long to try while the gateway is out of reach.", rich_help_panel=_CONNECTION_PANEL
    ),
    as_json: bool = typer.Option(False, "--json", help="Print events as JSON lines."),
) -> None:
    """Fine-tune the federation's model on private data and send the delta, round after round.

    Stopped or killed and started again, it goes on where it was.

    Example: coldfuse contribute 127.0.0.1:7700 --data reviews.csv --name alice --rounds 3
    """
    from coldfuse.config import prepare_training
    from coldfuse.contributor.node import Node, StoppedError
    from coldfuse.contributor.state import NodeFolder
    from coldfuse.transport.client import GatewayClient

    if once and rounds is not None:
        raise typer.BadParameter("give --once or --rounds, not both")
    prepare_training()
    columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    training = {
        "num_epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length,
        "tokens_at_once": tokens_at_once, "threads": threads, "device": device, "seed": seed,
    }  # fmt: skip
    settings = _settings(name or _default_name(data), (data, validation), columns, training, _encoding(encoding))
    folder = NodeFolder(work or Path(".coldfuse") / settings.name)
    stop = stop_on_signals()
    tls = tls_files(tls_ca, tls_cert, tls_key)
    gateway = GatewayClient(address, tls=tls, insecure=insecure, retry_s=parse_duration(patience))
    with folder.held(), gateway as client, node_view(as_json=as_json) as report:
        node = Node(settings, folder, client, report, stop)
        _hang_up_on(stop, client)
        try:
            _run(node, rounds=rounds, once=once, dry_run=dry_run, as_json=as_json)
        except (StoppedError, ColdfuseError, ValueError):  # ValueError: gRPC's word for a call after hanging up
            if not stop.is_set():
                raise
            typer.echo("stopped; started again, it goes on from here", err=True)


def _hang_up_on(stop: threading.Event, client: Gateway) -> None:
    """Cut off the call that runs when the node is asked to stop: it may wait for minutes."""

    def wait() -> None:
        stop.wait()
        client.close()

    threading.Thread(target=wait, name="hang up", daemon=True).start()


def _run(node: Node, *, rounds: int | None, once: bool, dry_run: bool, as_json: bool) -> None:
    if dry_run:
        _show_what_would_leave(node, as_json=as_json)
    elif once:
        node.contribute(wait_for_release=False)
    else:
        node.run(rounds=rounds)


def _settings(
    name: str,
    files: tuple[Path, Path | None],
    columns: dict[str, str | None],
    training: dict[str, int | float | str | None],
    encoding: Literal["F32", "BF16", "F16"],
) -> NodeSettings:
    from coldfuse.contributor.node import NodeSettings
    from coldfuse.data.dataset import split
    from coldfuse.data.reading import read_dataset
    from coldfuse.training.job import TrainingSettings

    settings = TrainingSettings(**training)  # type: ignore[arg-type]
    data, validation = files
    train = read_dataset(data, **columns)
    if validation is None:
        train, held_out = split(train, seed=settings.seed)
    else:
        held_out = read_dataset(validation, **columns, label_names=train.label_names)
    return NodeSettings(name=name, train=train, validation=held_out, training=settings, encoding=encoding)


def _default_name(data: Path) -> str:
    """Name a node the same at every start, without telling what its file is called."""
    secret = f"{socket.gethostname()}:{data.absolute()}"
    return f"node-{hashlib.sha256(secret.encode()).hexdigest()[:8]}"


def _encoding(text: str) -> Literal["F32", "BF16", "F16"]:
    match text.upper():
        case "F32" | "BF16" | "F16" as encoding:
            return encoding
    raise typer.BadParameter(f"--encoding {text}: expected F32, BF16 or F16")


def _show_what_would_leave(node: Node, *, as_json: bool) -> None:
    from coldfuse.core.serialization import encode
    from coldfuse.tensors.files import read_file_header

    work, trained = node.prepare()
    manifest = node.manifest(trained, status=node.client.status())
    header = read_file_header(work.delta)
    if as_json:
        tensors = {entry.name: entry.spec.model_dump() for entry in header.tensors}
        delta = {"path": str(work.delta), "size_bytes": trained.delta.size_bytes, "tensors": tensors}
        typer.echo(json.dumps({"phase": "dry-run", "manifest": manifest.model_dump(mode="json"), "delta": delta}))
        return
    typer.echo("would leave this node, and nothing else:")
    typer.echo(f"1. the manifest, {len(encode(manifest)):,} bytes:")
    typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=2))
    typer.echo(f"2. the delta, {trained.delta.size_bytes:,} bytes in {len(trained.delta.parts)} parts ({work.delta}):")
    for entry in header.tensors:
        shape = "×".join(map(str, entry.spec.shape)) or "scalar"
        typer.echo(f"   {entry.name}  {entry.spec.dtype}  {shape}  {entry.spec.size_bytes:,} bytes")
    typer.echo("stays here: the data, the head, the labels' names, the optimiser's state")
