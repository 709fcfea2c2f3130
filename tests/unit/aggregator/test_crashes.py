from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import (
    contribute,
    lead,
    make_changes,
    make_contribution,
    make_federation,
    make_model,
    naive_mean,
    read_release,
    receive,
)

from coldfuse.registry.journal import Journal

MODEL = make_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben", "cy"))}


class CrashError(Exception):
    """Stands for a kill."""


class CrashingJournal(Journal):
    """Dies before or after its n-th append of all of them."""

    countdown, before, fired = -1, False, 0

    def append(self, event) -> None:
        kind = type(self)
        kind.countdown -= 1
        if kind.countdown == 0 and kind.before:
            kind.fired += 1
            raise CrashError
        super().append(event)
        if kind.countdown == 0:
            kind.fired += 1
            raise CrashError


APPENDS = ("rejected", "admitted", "closed", "fused", "published")
MOMENTS = [*((True, n) for n in range(1, 6)), (False, 3), (False, 4), (False, 5)]
"""Before or after which append; nothing is written between the first three, so before one is after the one before."""


@pytest.mark.parametrize(
    ("before", "n"), MOMENTS, ids=[f"{'before' if before else 'after'} {APPENDS[n - 1]}" for before, n in MOMENTS]
)
def test_an_aggregator_that_dies_at_any_append_is_continued_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, before: bool
) -> None:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    bad = {"scale": np.float32(np.nan).reshape(())}
    sent = {contribute(federation, name, CHANGES[name]) for name in ("ada", "ben")} | {contribute(federation, "x", bad)}
    CrashingJournal.countdown, CrashingJournal.before, CrashingJournal.fired = n, before, 0
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.registry.federation.Journal", CrashingJournal)
        with pytest.raises(CrashError):
            lead(federation)
    assert CrashingJournal.fired == 1
    late = receive(federation, make_contribution(federation, "cy", CHANGES["cy"], round=1))
    lead(federation)
    state = federation.journal(1).state()
    assert sent | {late} == set(state.received)
    assert [(d in state.admitted) + (d in state.rejected) for d in state.received] == [1] * 4
    fused = [CHANGES[name] for name in ("ada", "ben", "cy") if contributed(state, name)]
    assert read_release(federation, 1) == naive_mean(MODEL, fused)


def contributed(state, name: str) -> bool:
    return any(a.contributor == name and a.contribution in state.closed.contributions for a in state.admitted.values())


JUDGED = ("rejected", "held", "admitted", "rejected", "closed", "fused", "published")


def test_an_aggregator_that_dies_while_it_judges_gives_everybody_one_verdict_and_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five who are honest, one who copies, one whose delta is too long: killed before each append in turn."""
    names = ("ada", "ben", "cy", "dee", "eve")
    changes = {name: make_changes(MODEL, seed) for seed, name in enumerate(names)}
    changes |= {"copy": {name: np.float32(-2) * values for name, values in changes["ada"].items()}}
    changes |= {"long": {name: np.float32(99) * values for name, values in make_changes(MODEL, 9).items()}}
    digests = set()
    for n in range(1, len(JUDGED) + 1):
        federation = make_federation(tmp_path / str(n), MODEL, quorum=5)
        lead(federation)
        for at_s, (name, each) in enumerate(changes.items()):
            receive(federation, make_contribution(federation, name, each), at_s=float(at_s))
        CrashingJournal.countdown, CrashingJournal.before, CrashingJournal.fired = n, True, 0
        with monkeypatch.context() as patch:
            patch.setattr("coldfuse.registry.federation.Journal", CrashingJournal)
            with pytest.raises(CrashError):
                lead(federation)
        assert CrashingJournal.fired == 1
        lead(federation)
        state = federation.journal(1).state()
        verdicts = {r.contributor: (d in state.admitted) + (d in state.rejected) for d, r in state.received.items()}
        assert verdicts == dict.fromkeys(changes, 1)
        assert {r.contributor for r in state.rejected.values()} == {"copy", "long"}
        assert not state.held
        digests.add(federation.latest().model_digest)
    assert len(digests) == 1
    assert read_release(federation) == naive_mean(MODEL, [changes[name] for name in names])
