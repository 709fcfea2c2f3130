"""Rounds from which something is retracted, and what is true of them afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tiny_rounds import contribute, lead, make_changes, make_federation, make_model

from coldfuse.aggregator.retract import Retracted, retract
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.registry.federation import Federation
from coldfuse.verification.findings import Report
from coldfuse.verification.store import Request, verify_store

NAMES = ("ada", "ben", "cy")


def played(
    folder: Path,
    rounds: Sequence[Sequence[str]] = (NAMES, NAMES, NAMES),
    *,
    dtype: str = "F32",
    opens: bool = False,
    **options: object,
) -> Federation:
    """Make a federation, and lead rounds of these contributors; everybody sends the same in a round of a number.

    Args:
        folder: Where it lies.
        rounds: Who contributes to each round.
        dtype: Dtype of the base.
        opens: Whether the next round is opened.
        options: Of the federation.
    """
    federation = make_federation(folder, make_model(dtype=dtype), **({"quorum": 1} | options))  # type: ignore[arg-type]
    for number, names in enumerate(rounds, start=1):
        lead(federation, number)
        for name in names:
            contribute(federation, name, make_changes(make_model(dtype=dtype), seed_of(number, name)))
        lead(federation, number, now_s=9.0)  # after any grace
    if opens:
        lead(federation, len(rounds) + 1)
    return federation


def seed_of(number: int, name: str) -> int:
    """Return what a contributor's delta in a round is made of."""
    return 10 * number + NAMES.index(name) if name in NAMES else 10 * number + 9


def take_out(federation: Federation, target: str, **options: bool) -> Retracted:
    """Retract, without waiting for anybody."""
    return retract(federation, target, ThreadExecutor(1), reason="asked for it", wait=lambda _: None, **options)


def verified(federation: Federation, *, fingerprint: str | None = None, recompute: bool = True) -> Report:
    """Verify a federation's store, and fuse the latest release again, and those that it comes from."""
    executor = ThreadExecutor(1) if recompute else None
    return verify_store(
        federation.store, Request(at_s=time.time(), fingerprint=fingerprint, executor=executor, reads_all=True)
    )
