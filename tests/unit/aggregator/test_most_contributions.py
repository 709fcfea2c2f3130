from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tiny_rounds import lead, make_changes, make_contribution, make_federation, make_model, make_round, receive

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.release import _prepare, most_contributions
from coldfuse.aggregator.round import advance
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.fuse import read_ahead
from coldfuse.engine.inputs import Input
from coldfuse.engine.job import task_bytes
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import UserInputError

MIB = 1 << 20
MODEL = make_model()


@pytest.mark.parametrize("method", ["mean", "ties", "clip then median", "mean then fedadam"])
@pytest.mark.parametrize("memory", [24 * MIB, 40 * MIB])
def test_all_numbers_up_to_the_most_fit_and_the_next_does_not(tmp_path: Path, method: str, memory: int) -> None:
    federation = make_federation(tmp_path, make_model(), method=method, quorum=3)
    base, executor = open_base(federation, federation.latest()), ThreadExecutor(1, memory_bytes=memory)
    empty = [Input(path="", files=(), is_delta=True, weight=1.0, known_digest="")] * 3
    prepared = _prepare(federation, base, empty, read_recipe(method))

    def takes(count: int) -> int:
        fusion = dataclasses.replace(prepared.fusion, weights=(1.0,) * count)
        return task_bytes(read_ahead(dataclasses.replace(prepared, fusion=fusion), executor).fusion, prepared.plan)

    most = most_contributions(federation, base, executor)
    assert most > 3
    assert max(takes(count) for count in range(3, most + 1)) <= memory < takes(most + 1)


def test_too_little_memory_for_the_quorum_is_refused_with_what_it_takes(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, make_model(), quorum=3)
    base = open_base(federation, federation.latest())
    with pytest.raises(UserInputError, match="give more --memory or fewer --workers"):
        most_contributions(federation, base, ThreadExecutor(1, memory_bytes=1 * MIB))


def test_a_round_takes_as_many_as_there_is_memory_for_and_the_rest_is_told_that_it_is_late(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=2)
    lead(federation)
    for seed in range(5):
        receive(federation, make_contribution(federation, f"c{seed}", make_changes(MODEL, seed)), at_s=float(seed))
    round_ = dataclasses.replace(make_round(federation), most=3)
    while advance(round_):
        pass
    state = federation.journal(1).state()
    assert {a.contributor for a in state.admitted.values()} == {"c0", "c1", "c2"}
    assert {r.contributor: r.is_late for r in state.rejected.values()} == {"c3": True, "c4": True}
    assert len(federation.latest().contributions) == 3
    assert state.published is not None
