"""What `coldfuse fuse` says of an adapter that it made."""

from __future__ import annotations

from coldfuse.engine.cutting import all_together, relative
from coldfuse.engine.folder_fusion import FolderFused

_MOST_DROPPED = 8


def adapter_lines(fused: FolderFused) -> list[str]:
    """Say how close an adapter comes to the fused delta, and what it could not hold; nothing for other outputs."""
    if fused.adapter is None:
        return []
    unchecked = fused.adapter.unchecked
    adapter = "the adapter" if unchecked else "the adapter, as PEFT applies it,"
    lines = [
        f"{adapter} is off by {fused.adapter.relative_error:.2%} of the fused delta: "
        f"layers with factors: {len(fused.adapter.factors)}, other tensors dropped: {len(fused.adapter.dropped)}"
    ]
    if unchecked:
        lines.append(f"nobody has checked that PEFT finds these layers in the model: {unchecked}")
    if fused.adapter.tied:
        lines.append(
            f"before it is merged it is off by {fused.adapter.unmerged_error:.2%}: the head is the embedding, and PEFT "
            "applies an embedding's factors to the head only when it merges them (merge_and_unload)"
        )
    by_norm = sorted(fused.adapter.dropped.items(), key=lambda item: -item[1])
    lines += [f"dropped: {name}, whose delta has norm {norm:.3g}" for name, norm in by_norm[:_MOST_DROPPED]]
    return lines + ([f"dropped: {len(by_norm) - _MOST_DROPPED} more"] if len(by_norm) > _MOST_DROPPED else [])


def cut_lines(fused: FolderFused) -> list[str]:
    """Say how much of what was fused a module's factors could not hold; nothing where none were cut."""
    cuts = fused.fused.cuts
    if not cuts:
        return []
    worst = max(cuts, key=lambda name: relative(cuts[name]))
    return [
        f"changes of weights are cut to the rank of the module: {relative(all_together(cuts)):.2%} of what was fused "
        f"is lost, at most {relative(cuts[worst]):.2%} of one ({worst})"
    ]


def adapter_json(fused: FolderFused) -> dict[str, object]:
    """Say the same as JSON."""
    if fused.adapter is None:
        return {}
    found = {
        "relative_error": fused.adapter.relative_error,
        "unmerged_error": fused.adapter.unmerged_error,
        "errors": dict(fused.adapter.errors),
        "dropped": dict(fused.adapter.dropped),
        "checked_with_peft": not fused.adapter.unchecked,
    }
    return {"adapter": found}
