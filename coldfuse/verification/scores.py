"""What gates have decided by: evaluators' counts have to be what those members have signed, of that very candidate."""

from __future__ import annotations

from collections.abc import Iterable

from coldfuse.core.gate_rules import SuiteCounts
from coldfuse.core.gating import Evaluated, Tried
from coldfuse.core.serialization import sha256
from coldfuse.errors import CodecError, NotAllowedError, SignatureError
from coldfuse.registry.objects import object_key
from coldfuse.trust.score import Score, claimed_score, read_score
from coldfuse.trust.view import TrustView
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.journals import SeenRound


def look_at_scores(look: Inspection, view: TrustView | None, rounds: Iterable[SeenRound]) -> None:
    """Look at the signed words behind every decision of a gate."""
    for round_ in rounds:
        for event in round_.events:
            if isinstance(event, Evaluated | Tried) and event.manifest is not None:
                _look_at_decision(look, view, round_.number, event)


def _look_at_decision(look: Inspection, view: TrustView | None, number: int, event: Evaluated | Tried) -> None:
    where = f"round {number}"
    counted: dict[tuple[str | None, str], SuiteCounts] = {
        (one.evaluator, one.suite): one for one in event.counts if one.evaluator is not None
    }
    if counted and view is None:
        look.add(Cause.UNSIGNED, where, "its gate has counted evaluators, and there are no members by this root")
        return
    said: dict[tuple[str | None, str], SuiteCounts] = {}
    for digest in event.words:
        score = _read(look, view, digest) if view is not None else None
        if score is None:
            continue
        look.looked_at["evaluators' words on candidates"] += 1
        if (score.round, score.manifest) != (number, event.manifest):
            look.add(Cause.CONTRADICTION, where, f"its gate has counted what {score.member} said of another candidate")
        said |= {(one.evaluator, one.suite): one for one in score.counts}
    for who, suite in sorted(counted.keys() | said.keys(), key=str):
        if counted.get((who, suite)) != said.get((who, suite)):
            look.add(Cause.CONTRADICTION, where, f"its gate has not counted what {who} has signed of {suite}")


def _read(look: Inspection, view: TrustView, digest: str) -> Score | None:
    key = object_key(digest)
    data = look.read(key)
    if data is None:
        look.add(Cause.GAP, key, "is missing: an evaluator's signed counts, by which a gate has decided")
        return None
    if sha256(data) != digest:
        look.add(Cause.DIGEST, key, "is not what it is named by")
        return None
    try:
        return read_score(view, data, now_s=claimed_score(data).scored_at_s, what=key)[0]
    except (CodecError, SignatureError) as error:
        look.error(key, error)
    except NotAllowedError as error:
        look.add(Cause.CONTRADICTION, key, f"was counted, and does not count: {error}")
    return None
