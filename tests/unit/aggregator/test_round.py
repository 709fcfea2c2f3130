from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_folders import DENSE, ROOT, ROUTED, read_files, write_modules
from tiny_rounds import (
    contribute,
    floats,
    lead,
    make_changes,
    make_contribution,
    make_federation,
    make_model,
    make_round,
    naive_mean,
    read_release,
    receive,
)

from coldfuse.aggregator.judging import MAX_VERDICTS
from coldfuse.aggregator.round import advance
from coldfuse.consumer import fetch
from coldfuse.core.contribution import Rejection
from coldfuse.core.round import Abandoned, Admitted, Rejected
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import ConflictError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.chain import Head
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore

MODEL = make_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben", "cy"))}


def events(appended) -> list[str]:
    return [event.event for event in appended]


def reasons(federation: Federation, number: int = 1) -> dict[str, str]:
    state = federation.journal(number).state()
    return {rejection.contributor: rejection.reason for rejection in state.rejected.values()}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Return one whose first round is open."""
    made = make_federation(tmp_path, MODEL)
    assert events(lead(made)) == ["opened"]
    return made


def test_a_round_fuses_the_mean_of_its_contributions(federation: Federation) -> None:
    for name, changes in CHANGES.items():
        contribute(federation, name, changes)
    assert events(lead(federation)) == ["admitted", "closed", "fused", "published"]
    assert federation.latest().release == 1
    assert read_release(federation) == naive_mean(MODEL, list(CHANGES.values()))


def test_a_contribution_counts_by_its_examples(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="weighted-mean")
    lead(federation)
    contribute(federation, "ada", {"scale": np.float32(3.0).reshape(())}, num_examples=100)
    contribute(federation, "ben", {"scale": np.float32(0.5).reshape(())}, num_examples=300)
    lead(federation)
    expected = float(MODEL["scale"].floats) + (100 * 3.0 + 300 * 0.5) / 400
    assert read_release(federation)["scale"] == floats(expected)
    assert {c.contributor: c.weight for c in federation.latest().contributions} == {"ada": 100.0, "ben": 300.0}


def test_the_next_round_starts_from_the_release(federation: Federation) -> None:
    for number in (1, 2):
        lead(federation, number)
        for name in ("ada", "ben"):
            contribute(federation, name, CHANGES[name])
        lead(federation, number)
    once = naive_mean(MODEL, [CHANGES["ada"], CHANGES["ben"]])
    assert read_release(federation) == naive_mean(once, [CHANGES["ada"], CHANGES["ben"]])
    assert (federation.latest().parent, federation.latest().round) == (1, 2)


def test_any_order_and_number_of_threads_makes_the_same_model(tmp_path: Path, small_parts: int) -> None:
    digests = set()
    for threads, order in ((1, "ada ben cy"), (3, "cy ada ben"), (2, "ben cy ada")):
        federation = make_federation(tmp_path / str(threads), MODEL, num_files=3)
        lead(federation)
        for at_s, name in enumerate(order.split()):
            receive(federation, make_contribution(federation, name, CHANGES[name]), at_s=float(at_s))
        lead(federation, executor=ThreadExecutor(threads))
        digests.add(federation.latest().model_digest)
    assert read_release(federation) == naive_mean(MODEL, list(CHANGES.values()))
    assert len(digests) == 1


def test_not_even_a_sum_that_depends_on_its_order_depends_on_the_arrival(tmp_path: Path) -> None:
    values = {"ada": [1.0, 1.0], "ben": [2.0**-53, 1.0], "cy": [2.0**-53, 2.0]}
    digests = set()
    for number, order in enumerate((list(values), list(values)[::-1])):  # from the left, they make other sums
        federation = make_federation(tmp_path / str(number), {"a": floats([0.0, 0.0], "F64")})
        lead(federation)
        for at_s, name in enumerate(order):
            changes = {"a": np.array(values[name], np.float32)}
            receive(federation, make_contribution(federation, name, changes), at_s=float(at_s))
        lead(federation)
        digests.add(federation.latest().model_digest)
    assert len(digests) == 1


@pytest.mark.parametrize(("dtype", "encoding"), [("BF16", "F32"), ("F16", "BF16"), ("F64", "F16")])
def test_bases_of_other_dtypes_are_rounded_once(tmp_path: Path, dtype: str, encoding: str) -> None:
    model = make_model(dtype=dtype)
    federation = make_federation(tmp_path, model)
    lead(federation)
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name], encoding=encoding)
    lead(federation)
    sent = [{k: floats(v, encoding).floats for k, v in CHANGES[name].items()} for name in ("ada", "ben")]
    assert read_release(federation) == naive_mean(model, sent)


def test_what_nobody_changed_keeps_its_parts(tmp_path: Path, small_parts: int) -> None:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    for value, name in enumerate(("ada", "ben"), start=1):
        changes = {"embeddings.weight": np.full((50, 8), 0, np.float32)}
        changes["embeddings.weight"][value * 10 :] = value
        contribute(federation, name, changes)
    lead(federation)
    base, release = (federation.release(n).files for n in (0, 1))
    pairs = list(zip(base["model.safetensors"].parts, release["model.safetensors"].parts, strict=True))
    assert base["config.json"] == release["config.json"]
    assert 2 < sum(old == new for old, new in pairs) < len(pairs)
    assert read_release(federation)["layer.weight"] == MODEL["layer.weight"]


def test_a_round_in_which_nothing_changed_keeps_the_model(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, screening=ScreeningRules.off())
    lead(federation)
    for name in ("ada", "ben"):
        contribute(federation, name, {}, num_examples=len(name) + ord(name[0]))
    lead(federation)
    assert federation.latest().release == 1
    assert federation.latest().model_digest == federation.release(0).model_digest


def test_a_contribution_that_comes_after_the_end_gets_a_verdict(federation: Federation) -> None:
    late = make_contribution(federation, "cy", CHANGES["cy"])
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name])
    lead(federation)
    receive(federation, late)
    assert events(lead(federation)) == ["rejected"]
    assert "round 1 closed before it could be screened" in reasons(federation)["cy"]
    assert lead(federation) == []


def test_without_a_quorum_the_contributions_count_for_the_next_round(federation: Federation) -> None:
    contribute(federation, "ada", CHANGES["ada"])
    assert events(lead(federation, now_s=59.0)) == ["admitted"]
    assert isinstance(lead(federation, now_s=60.0)[0], Abandoned)
    assert federation.current_round() == 2
    opened = lead(federation, 2, now_s=60.0)[0]
    assert [admission.contributor for admission in opened.carried] == ["ada"]
    contribute(federation, "ben", CHANGES["ben"])
    assert events(lead(federation, 2, now_s=61.0)) == ["admitted", "closed", "fused", "published"]
    assert read_release(federation) == naive_mean(MODEL, [CHANGES["ada"], CHANGES["ben"]])


def test_what_was_carried_waits_for_more_and_is_fused_once(federation: Federation) -> None:
    contribute(federation, "ada", CHANGES["ada"])
    lead(federation, 1, now_s=0.0)
    lead(federation, 1, now_s=100.0)
    lead(federation, 2, now_s=100.0)
    assert lead(federation, 2, now_s=1e6) == []  # abandoning it would open the same round again
    contribute(federation, "ada", CHANGES["ben"])
    contribute(federation, "cy", CHANGES["cy"])
    lead(federation, 2, now_s=1e6 + 1)
    assert "ada has contributed to this base already" in reasons(federation, 2)["ada"]
    assert read_release(federation) == naive_mean(MODEL, [CHANGES["ada"], CHANGES["cy"]])


def test_an_empty_round_waits_for_as_long_as_it_takes(federation: Federation) -> None:
    assert lead(federation, now_s=1e9) == []


def test_verdicts_come_in_few_entries(federation: Federation) -> None:
    for name in ("ada", "ben", "cy"):
        contribute(federation, name, CHANGES[name])
    appended = lead(federation)
    assert [len(event.admissions) for event in appended if isinstance(event, Admitted)] == [3]
    assert not [event for event in appended if isinstance(event, Rejected)]


def test_many_verdicts_are_split_into_entries_that_can_be_read(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfuse.aggregator.judging.MAX_VERDICTS", 2)
    bad = {"scale": np.float32(np.nan).reshape(())}
    for name in ("a", "b", "c", "d", "e"):
        contribute(federation, name, bad)
    contribute(federation, "ada", CHANGES["ada"])
    appended = lead(federation)
    assert [len(event.rejections) for event in appended if isinstance(event, Rejected)] in (
        [2, 2, 1],
        [2, 1, 2],
        [1, 2, 2],
    )
    assert len(federation.journal(1).state().rejected) == 5
    assert len(federation.journal(1).state().admitted) == 1


def test_the_longest_verdicts_of_one_entry_can_be_read() -> None:
    rejection = Rejection(contribution=sha256(b"x"), contributor="c" * 63, reason="\U0001f9ca" * 2000)
    entry = Head(seq=1, entry=Rejected(rejections=(rejection,) * MAX_VERDICTS))
    assert decode(Head, encode(entry), what="head") == entry


def test_a_leader_with_a_release_that_is_the_latest_no_more_opens_nothing(federation: Federation) -> None:
    stale = make_round(federation, 2)
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name])
    lead(federation)
    with pytest.raises(ConflictError, match="release 0 is the latest no more"):
        advance(stale)
    assert federation.journal(2).head() is None
    assert lead(federation, 2)[0].base_release == 1


def test_a_round_keeps_the_modules_that_no_contribution_changes(tmp_path: Path) -> None:
    base, rules = write_modules(tmp_path / "base"), {"quorum": 2, "deadline_s": 60.0}
    store = LocalStore(tmp_path / "store")
    federation = create_federation(store, name="tiny", base=base, origin="base", method="mean", rules=rules)
    body, dense = np.full((3, 4), 0.5, np.float32), np.full((3, 4), 2.0, np.float32)
    contribute(federation, "ada", {"linear.weight": body})
    contribute(federation, "ben", {"linear.weight": body, "2_Dense/linear.weight": dense})
    lead(federation)
    fetch(StoreGateway(federation), tmp_path / "out")
    files, before = read_files(tmp_path / "out"), read_files(base)
    assert files.keys() == before.keys()
    moved = {file: files[file]["linear.weight"].floats - before[file]["linear.weight"].floats for file in files}
    assert {file: set(change.round(5).reshape(-1).tolist()) for file, change in moved.items()} == {
        ROOT: {0.5}, DENSE: {1.0}, ROUTED: {0.0}
    }  # fmt: skip


def test_a_late_verdict_after_an_abandoned_round_does_not_hide_that_it_is_over(federation: Federation) -> None:
    contribute(federation, "ada", CHANGES["ada"])
    lead(federation)
    late = make_contribution(federation, "ben", CHANGES["ben"])
    assert [event.event for event in lead(federation, now_s=1e6)][-1] == "abandoned"
    receive(federation, late)
    assert [event.event for event in lead(federation, 1, now_s=1e6)] == ["rejected"]
    assert federation.current_round() == 2
