"""What `contribute --dry-run` shows: all that would leave the node, and what stays."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import typer

from coldfuse.contributor.events import NodeEvent, describe_score
from coldfuse.contributor.leaving import LeavingTensor, list_leaving, list_private
from coldfuse.contributor.node import Node
from coldfuse.contributor.sender import Sender
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.serialization import encode
from coldfuse.core.statistics import ContributedStatistics
from coldfuse.tensors.tensor_file import read_file_header


def show_what_would_leave(node: Node, *, as_json: bool) -> None:
    """Train, and show what would leave the node, without sending it."""
    work, trained = node.prepare()
    show_leaving(node, work, trained, as_json=as_json)


def show_leaving(node: Sender, work: WorkFolder, trained: Trained, *, as_json: bool) -> None:
    """Show what would leave, once it is made."""
    manifest = node.manifest(trained, status=node.client.status())
    mask = work.masks.path(trained.mask) if trained.mask else None
    leaving = list_leaving(work.delta, node.folder.base, trained.base_digest, mask=mask)
    if as_json:
        _show_json(work, trained, manifest, leaving)
        return
    typer.echo("would leave this node, and nothing else:")
    typer.echo(f"1. the manifest, {len(encode(manifest)):,} bytes:")
    typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False))
    typer.echo(f"2. the delta, {trained.delta.size_bytes:,} bytes in {len(trained.delta.parts)} parts ({work.delta}):")
    for entry in read_file_header(work.delta).tensors:
        shape = "×".join(map(str, entry.spec.shape)) or "scalar"
        typer.echo(f"   {entry.name}  {entry.spec.dtype}  {shape}  {entry.spec.size_bytes:,} bytes")
    _show_changes(leaving)
    if manifest.mask is not None and mask is not None:
        _show_mask(manifest.mask, mask, is_sent=work.masks.is_sent(manifest.mask))
    if manifest.statistics is not None:
        _show_statistics(manifest.statistics, work.statistics, number=3 + (manifest.mask is not None))
    typer.echo("stays here: the data, the head, the labels' names, the optimiser's state")
    if private := list_private(work.head):
        typer.echo(f"   private tensors ({work.head}):")
        for private_name, private_shape in private:
            typer.echo(f"   {private_name}  {'×'.join(map(str, private_shape)) or 'scalar'}")
    if not trained.beats_base and trained.score is not None:
        typer.echo(
            f"it would not be sent without --send-anyway: {describe_score(trained.score)} does not beat the base"
        )


def _show_mask(given: Blob, path: Path, *, is_sent: bool) -> None:
    again = "; the gateway has it, and it is not sent again" if is_sent else ""
    typer.echo(
        f"3. the mask, which elements were trained, {given.size_bytes:,} bytes in {len(given.parts)} parts ({path})"
        f"{again}:"
    )
    for entry in read_file_header(path).tensors:
        typer.echo(f"   {entry.name}  {entry.spec.dtype}  {entry.spec.size_bytes:,} bytes")


def _show_statistics(given: ContributedStatistics, path: Path, *, number: int) -> None:
    num_parts, size_bytes = len(given.file.parts), given.file.size_bytes
    typer.echo(
        f"{number}. its {given.kind} statistics as {given.coding}, {size_bytes:,} bytes in {num_parts} parts ({path}):"
    )
    for entry in read_file_header(path).tensors:
        typer.echo(f"   {entry.name}  {entry.spec.size_bytes:,} bytes")


def _show_changes(leaving: list[LeavingTensor]) -> None:
    sizes: Counter[str] = Counter()
    for tensor in leaving:
        sizes[tensor.encoding] += tensor.size_bytes
    kinds = ", ".join(f"{kind} {size:,}" for kind, size in sizes.most_common()) or "none"
    typer.echo(f"bytes by encoding: {kinds}")
    typer.echo("change of each tensor, as a share of its own length:")
    for tensor in leaving:
        rows = "" if tensor.moved_rows is None else _rows(tensor.moved_rows, tensor.shape[0])
        typer.echo(f"   {tensor.name}  {tensor.relative_change:.2e}{rows}")


def _rows(moved: int, num_rows: int) -> str:
    if moved == num_rows:
        return f"; all {num_rows:,} rows moved"
    return f"; {moved:,} of {num_rows:,} rows moved: whoever reads the delta sees which were used"


def _show_json(
    work: WorkFolder, trained: Trained, manifest: ContributionManifest, leaving: list[LeavingTensor]
) -> None:
    tensors = {entry.name: entry.spec.model_dump() for entry in read_file_header(work.delta).tensors}
    delta = {"path": str(work.delta), "size_bytes": trained.delta.size_bytes, "tensors": tensors}
    event = NodeEvent(phase="dry-run", base_release=manifest.base_release, message="would leave this node")
    found: dict[str, object] = {
        "manifest": manifest.model_dump(mode="json"), "delta": delta, "beats_base": trained.beats_base,
        "changes": [tensor.as_json() for tensor in leaving],
        "private": {name: list(shape) for name, shape in list_private(work.head)},
    }  # fmt: skip
    if manifest.mask is not None:
        found["mask"] = {
            "path": str(work.masks.path(manifest.mask)), "size_bytes": manifest.mask.size_bytes,
            "is_sent": work.masks.is_sent(manifest.mask),
        }  # fmt: skip
    if manifest.statistics is not None:
        found["statistics"] = {
            "path": str(work.statistics), "size_bytes": manifest.statistics.file.size_bytes,
            "tensors": {entry.name: entry.spec.model_dump() for entry in read_file_header(work.statistics).tensors},
        }  # fmt: skip
    typer.echo(json.dumps(event.as_json() | found))
