"""What a gateway does, values in and values out; no wire.

    base            `Gateway`, what everybody asks of a federation; `answers`: the values that it answers with
    store           `StoreGateway`: the answers, straight from a store
    rounds          where a federation stands, and what that means for people
    contributions   taking a contribution: its parts, the checks, and the race with the round's end
    presence        which parts were here a moment ago
    upload          which parts of a file are sent, several at a time
    intake          what callers may bring, and hear of what others have brought; `senders`: who has signed it
    arrivals        what was sent and not committed, counted; `sent`: how that lies in the store
    leftovers       dropping what nobody committed
    housekeeping    the threads that see to it
    signed          what is signed and can be had by key
    auditing        what a release was made from, which members of an auditable federation may have
    single_flight   one read for all who ask at the same time

`transport` serves a `StoreGateway` over gRPC; its client is a `Gateway` again. Code that is written against `Gateway`
works on a folder, on a bucket and over the network.
"""

from coldfuse.gateway.answers import (
    ContributionSummary,
    ContributionVerdict,
    Decision,
    ReleaseName,
    ReleaseSummary,
    RoundStatus,
    Status,
    UploadReport,
)
from coldfuse.gateway.base import MAX_POLL_S, MIN_POLL_S, PARALLEL, Gateway, OnProgress
from coldfuse.gateway.store import StoreGateway

__all__ = [
    "MAX_POLL_S",
    "MIN_POLL_S",
    "PARALLEL",
    "ContributionSummary",
    "ContributionVerdict",
    "Decision",
    "Gateway",
    "OnProgress",
    "ReleaseName",
    "ReleaseSummary",
    "RoundStatus",
    "Status",
    "StoreGateway",
    "UploadReport",
]
