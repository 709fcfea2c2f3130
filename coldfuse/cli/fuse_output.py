"""What `coldfuse fuse` says of an adapter that it made."""

from __future__ import annotations

from coldfuse.engine.folder_fusion import FolderFused

_MOST_DROPPED = 8


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
