"""Which rule keeps which release: each once, and all that is kept."""

from __future__ import annotations

from itertools import product

import pytest

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.retention import Kept, RetentionRules, decide_kept

NONE = Kept(files=frozenset(), deltas=frozenset())


def chain(length: int) -> list[ReleaseManifest]:
    return [
        ReleaseManifest(
            federation="0" * 64,
            release=n,
            parent=n - 1 if n else None,
            round=n,
            method="mean",
            model_digest="0" * 64,
            files={},
            created_at_s=0.0,
        )
        for n in range(length)
    ]


@pytest.mark.parametrize(
    ("files", "deltas", "targets", "bases", "gone"),
    list(product([None, 1, 3], [None, 0, 2], [(), (6,), (2, 6)], [(), (1,)], [(), (0, 1, 2)])),
)
def test_every_release_that_is_kept_is_kept_by_one_rule(
    files: int | None, deltas: int | None, targets: tuple[int, ...], bases: tuple[int, ...], gone: tuple[int, ...]
) -> None:
    collected = Kept(files=frozenset(gone), deltas=frozenset(gone))
    rules = RetentionRules(keep_releases=files, keep_deltas=deltas)
    kept = decide_kept(rules, chain(7), targets=targets, collected=collected, bases=bases)
    for what, numbers in (("files", kept.files), ("contributions", kept.deltas)):
        named = [number for each in kept.why if each.what == what for number in each.releases]
        assert sorted(named) == sorted(numbers)


def test_the_reason_is_the_first_rule_that_keeps_it() -> None:
    kept = decide_kept(RetentionRules(keep_releases=1, keep_deltas=2), chain(7), targets=[5], collected=NONE, bases=[1])
    files = [each for each in kept.why if each.what == "files"]
    assert {(number, each.reason.split()[0]) for each in files for number in each.releases} == {
        (6, "--keep-releases"), (5, "a"), (1, "a"), (4, "releases"),
    }  # fmt: skip
