from __future__ import annotations

import json

from coldfuse.core.gate_rules import GateDecision
from coldfuse.core.gating import Evaluated
from coldfuse.core.rollback import Rollback
from coldfuse.core.round import Closed, Opened, Published, fold
from coldfuse.webhooks.events import notice_of, notices_of
from coldfuse.webhooks.marks import Mark

OPENED = Opened(base_release=3, base_digest="0" * 64, opened_at_s=1.0)
CLOSED = Closed(contributions=("1" * 64, "2" * 64), reason="quorum reached")
STEP = Rollback(number=2, release=1, left=4, left_manifest="0" * 64, newest=4, round=9, at_s=0.0, reason="bad", by="a")


def told(*events: object) -> list[str]:
    return [notice.type for notice in notices_of("f" * 64, 9, fold(events), None)]  # type: ignore[arg-type]


def test_a_round_tells_that_it_closed_and_what_it_released() -> None:
    assert told(OPENED) == []
    assert told(OPENED, CLOSED) == ["coldfuse.round.closed"]
    assert told(OPENED, CLOSED, Published(release=4)) == ["coldfuse.round.closed", "coldfuse.release.published"]


def test_every_candidate_that_the_gate_refuses_is_told() -> None:
    refused = [
        Evaluated(
            manifest=digest * 64, counts=(),
            decision=GateDecision(publish=False, finding="worse", reason=f"worse on news ({digest})"),
        )
        for digest in "ab"
    ]  # fmt: skip
    passed = Evaluated(
        manifest="c" * 64, counts=(), decision=GateDecision(publish=True, finding="not-worse", reason="well")
    )  # fmt: skip
    events = [OPENED, CLOSED, *refused, passed, Published(release=4)]
    assert told(*events) == [
        "coldfuse.round.closed", "coldfuse.gate.failed", "coldfuse.gate.failed", "coldfuse.release.published"
    ]  # fmt: skip
    notices = list(notices_of("f" * 64, 9, fold(events), None))  # type: ignore[arg-type]
    assert len({notice.id for notice in notices}) == 4
    assert notices[2].data == {"round": 9, "candidate": "b" * 64, "reason": "worse on news (b)"}
    assert Mark().after(notices[1]).covers(notices[0])
    assert not Mark().after(notices[1]).covers(notices[2])


def test_the_same_thing_has_the_same_id_and_bytes_whoever_tells_it() -> None:
    first, again = (next(iter(notices_of("f" * 64, 9, fold([OPENED, CLOSED]), None))) for _ in range(2))
    assert (first.id, first.body()) == (again.id, again.body())
    others = [
        next(iter(notices_of("f" * 64, 10, fold([OPENED, CLOSED]), None))),
        next(iter(notices_of("e" * 64, 9, fold([OPENED, CLOSED]), None))),
        notice_of("f" * 64, STEP),
        notice_of("f" * 64, STEP.model_copy(update={"number": 3})),
    ]
    assert len({first.id, *(other.id for other in others)}) == 5


def test_it_is_a_cloud_event_that_names_no_contributor() -> None:
    event = json.loads(notice_of("f" * 64, STEP).body())
    assert event == {
        "specversion": "1.0", "id": event["id"], "source": f"urn:coldfuse:{'f' * 64}",
        "type": "coldfuse.channel.rolledback", "subject": "channels/latest", "datacontenttype": "application/json",
        "time": "1970-01-01T00:00:00Z",
        "data": {"release": 1, "left": 4, "reason": "bad", "by": "a", "last_round": 9},
    }  # fmt: skip
    closed = json.loads(next(iter(notices_of("f" * 64, 9, fold([OPENED, CLOSED]), None))).body())
    assert closed["data"] == {"round": 9, "contributions": 2, "reason": "quorum reached"}
    assert "time" not in closed


def test_a_mark_covers_what_was_before_it_and_only_grows() -> None:
    closed, released = notices_of("f" * 64, 9, fold([OPENED, CLOSED, Published(release=4)]), None)
    step = notice_of("f" * 64, STEP)
    mark = Mark().after(closed)
    assert [mark.covers(notice) for notice in (closed, released, step)] == [True, False, False]
    mark = mark.after(step)
    assert [mark.covers(notice) for notice in (closed, released, step)] == [True, False, True]
    assert mark.after(released).after(closed) == mark.after(released)
