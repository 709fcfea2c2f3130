"""What `coldfuse fuse` reads from and writes to: folders, S3 and the hub; models, deltas and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from coldfuse.cli.source import resolve_model
from coldfuse.cli.units import parse_size
from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.engine.folder_fusion import FolderFused
    from coldfuse.engine.outputs import Output
    from coldfuse.tensors.folders import Location

_PANEL = "Output"
_MOST_DROPPED = 8

Kind = Literal["model", "delta", "adapter"]
Dtype = Literal["F32", "BF16", "F16"]

AS = typer.Option(
    "model", "--as", help="What OUT is: a model's folder, a coldfuse delta file on the base, or a PEFT adapter's "
    "folder (the closest low-rank factors of the fused delta).", rich_help_panel=_PANEL,
)  # fmt: skip
SHARD_SIZE = typer.Option(
    None, help="Cut the model into files of this size, 5GB; by default it has the base's files.", rich_help_panel=_PANEL
)
DTYPE = typer.Option(
    "F32", help="Of a delta or of an adapter's factors; a model keeps the base's.", rich_help_panel=_PANEL
)
RANK = typer.Option(None, min=1, help="Of an adapter: how many columns its factors have.", rich_help_panel=_PANEL)


def located(given: str) -> Location:
    """Return where an input lies: what is on this machine, what is in S3, and else the hub's model of this name."""
    if given.endswith(".safetensors") or given.startswith("s3://") or Path(given).exists():
        return located_file(given)
    return resolve_model(given)


def located_file(given: str) -> Location:
    """Return where a file lies: on this machine or in S3."""
    if given.startswith("s3://"):
        return given
    if not Path(given).exists():
        raise UserInputError(f"{given}: no such file")
    return Path(given)


def output_of(kind: Kind, *, shard_size: str | None, dtype: Dtype, rank: int | None, base_name: str) -> Output:
    """Read what the user wrote."""
    from coldfuse.engine.outputs import Output

    shard_bytes = parse_size(shard_size) if shard_size else None
    return Output(kind=kind, shard_bytes=shard_bytes, dtype=dtype, rank=rank, base_name=base_name)


def adapter_lines(fused: FolderFused) -> list[str]:
    """Say how close an adapter comes to the fused delta, and what it could not hold; nothing for other outputs."""
    if fused.adapter is None:
        return []
    lines = [
        f"the adapter is off by {fused.adapter.relative_error:.2%} of the fused delta: "
        f"matrices with factors: {len(fused.adapter.factors)}, other tensors dropped: {len(fused.adapter.dropped)}"
    ]
    by_norm = sorted(fused.adapter.dropped.items(), key=lambda item: -item[1])
    lines += [f"dropped: {name}, whose delta has norm {norm:.3g}" for name, norm in by_norm[:_MOST_DROPPED]]
    return lines + ([f"dropped: {len(by_norm) - _MOST_DROPPED} more"] if len(by_norm) > _MOST_DROPPED else [])


def adapter_json(fused: FolderFused) -> dict[str, object]:
    """Say the same as JSON."""
    if fused.adapter is None:
        return {}
    errors = {name: item.relative_error for name, item in fused.adapter.factors.items()}
    found = {"relative_error": fused.adapter.relative_error, "errors": errors, "dropped": dict(fused.adapter.dropped)}
    return {"adapter": found}
