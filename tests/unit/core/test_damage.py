from __future__ import annotations

import pytest

from coldfuse.core.blob import Part
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.damage import MAX_REPAIRS, REPAIR_S, Damage, Damaged, Mending, decide_mending
from coldfuse.core.release import OuterState, ReleaseManifest
from coldfuse.core.round import Admitted, Closed, Opened, Published, Rejected, fold
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import encode
from coldfuse.errors import CodecError

DIGEST = "ab" * 32
DAMAGE = Damage(contribution=DIGEST, parts=(Part(digest="cd" * 32, size_bytes=3),), reason="why")


@pytest.mark.parametrize(
    ("num_whole", "waited_s", "num_tries", "action"),
    [
        (2, 0.0, 1, Mending.WAIT),
        (2, REPAIR_S - 1, MAX_REPAIRS, Mending.WAIT),
        (2, REPAIR_S, 1, Mending.LEAVE_OUT),
        (1, REPAIR_S, 1, Mending.ABANDON),
        (2, 0.0, MAX_REPAIRS + 1, Mending.LEAVE_OUT),
    ],
)
def test_a_round_waits_for_a_repair_a_bounded_time(
    num_whole: int, waited_s: float, num_tries: int, action: Mending
) -> None:
    found, reason = decide_mending([DAMAGE], num_whole=num_whole, quorum=2, waited_s=waited_s, num_tries=num_tries)
    assert found is action
    assert "part cdcdcdcdcdcd of contribution abababababab" in reason


def test_a_journal_remembers_what_is_damaged_and_since_when_it_is_waited_for() -> None:
    admission = Admission(contribution=DIGEST, contributor="ada", delta_digest=DIGEST, num_examples=1)
    damaged = Damaged(damages=(DAMAGE,), found_at_s=1.0)
    entries = [
        Opened(base_release=0, base_digest=DIGEST, opened_at_s=0.0),
        damaged,
        Admitted(admissions=(admission,)),
        Closed(contributions=(DIGEST,), reason="quorum"),
        damaged.model_copy(update={"found_at_s": 2.0}),
    ]
    state = fold(entries)
    assert (state.damaged, [d.found_at_s for d in state.damages]) == ({DIGEST: DAMAGE}, [2.0])
    late = Rejection(contribution=DIGEST, contributor="ada", reason="damaged", is_late=True)
    assert fold([*entries, Rejected(rejections=(late,))]).admitted == {}


def test_a_seal_is_read_over_by_who_knows_none_and_misses_no_change() -> None:
    sealed = seal(Published(release=3))
    assert unseal(Published, sealed, what="x") == Published.model_validate_json(sealed) == Published(release=3)
    assert unseal(Published, encode(Published(release=3)), what="x") == Published(release=3)  # of an older version
    with pytest.raises(CodecError, match="x: its seal is not that of what it says"):
        unseal(Published, sealed.replace(b":3", b":7"), what="x")


def test_a_manifest_without_checks_has_the_bytes_that_an_older_version_wrote() -> None:
    state = OuterState(age=1, files={})
    manifest = ReleaseManifest(
        federation=DIGEST, release=0, parent=None, round=0, method="base", model_digest=DIGEST, files={},
        created_at_s=1.0, outer=state,
    )  # fmt: skip
    assert b"checks" not in encode(manifest)
    again = manifest.model_copy(update={"checks": {"a": DIGEST}})
    assert ReleaseManifest.model_validate_json(encode(again)) == again
