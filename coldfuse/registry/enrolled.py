"""Whom an open round waits for, where it waits for everybody who is enrolled."""

from __future__ import annotations

from coldfuse.core.past import MAX_ACTIVE, ActiveContributor
from coldfuse.core.round import Opened
from coldfuse.registry.federation import Federation

_MAX_AGE_S = 1.0
"""Largest age of the list of members that is looked at: a round is looked at several times a second."""


def with_enrolled(federation: Federation, opened: Opened) -> Opened:
    """Return how a round began, as if all had contributed lately who may contribute now.

    Who is enrolled while the round is open is waited for, and who is revoked is not any more. A round that does not
    wait for all, and one of a federation without a list of members, is returned as it is.
    """
    if opened.rules.close != "all" or federation.trust is None:
        return opened
    known = federation.trust.recent(max_age_s=_MAX_AGE_S)
    members, now_s = known.members.members, federation.now_s()
    may = {
        name
        for name, one in members.items()
        if one.role == "contributor" and one.revoked is None and now_s <= one.valid_until_s
    }
    there = [one for one in opened.active if one.contributor in may or one.contributor not in members]
    new = sorted(may - {one.contributor for one in there})
    everybody = (*there, *(ActiveContributor(contributor=name, num_rounds=0) for name in new))
    return opened.model_copy(update={"active": everybody[:MAX_ACTIVE]})
